#!/usr/bin/env python3
"""Render pages of text, user interfaces, charts and pixel art, as clean images for training.

    python datasets/render_graphics.py datasets/graphics

A model that has seen photographs alone changes text and drawings more than compression at a good
quality did. As a further training set (``datasets: train_2``, see ``options/_base/graphics.yml``)
these images cost no download, and no licence restricts them: they are drawn with the fonts that
ship with Pillow and, if it is installed, matplotlib. The same seed, size and fonts give the same
images; those that exist are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.progress import track

if __name__ == "__main__":
    # Import the package of this checkout, whether or not one is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vheatir.cli import positive_number, run_entry_point
from vheatir.errors import VHeatIRError
from vheatir.image_io import encode_image, write_bytes_atomically

Color = tuple[int, int, int]

# About as frequent as in English.
_LETTERS = "eeeeetttaaaooiinnsshhrrddllcuumwfgypbvk"
_SMALLEST_SIDE = 128
_SCANNED = 0.3  # fraction of the images


def find_fonts() -> list[Path]:
    """Return the text fonts that ship with matplotlib; none if it is not installed."""
    if find_spec("matplotlib") is None:
        return []
    from matplotlib import get_data_path

    names = ("DejaVuS", "cmr10", "cmss10", "cmtt10")
    found = sorted(Path(get_data_path(), "fonts", "ttf").glob("*.ttf"))
    return [path for path in found if path.name.startswith(names) and "Display" not in path.name]


def render(rng: np.random.Generator, side: int, fonts: Sequence[Path] = ()) -> NDArray[np.uint8]:
    """Render one image, (side, side, 3) RGB: :func:`draw`, and three times of ten :func:`scan`."""
    image = draw(rng, side, fonts)
    return scan(image, rng) if rng.random() < _SCANNED else np.asarray(image)


def draw(rng: np.random.Generator, side: int, fonts: Sequence[Path] = ()) -> Image.Image:
    """Draw one image, of a random kind.

    Args:
        rng: random generator.
        side: height and width in pixels.
        fonts: font files to draw from, besides Pillow's own font.
    """
    back, ink = _two_colors(rng)
    image = Image.new("RGB", (side, side), back)
    canvas = _Canvas(ImageDraw.Draw(image), rng, side, ink, fonts)
    if rng.random() < 0.2:
        canvas.draw.fontmode = "1"  # text without antialiasing
    kinds = (_page, _page, _interface, _chart, _pixel_art)
    kinds[int(rng.integers(len(kinds)))](canvas)
    return image


def scan(image: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make an image look scanned: soft, of low contrast, unevenly lit, on rough paper.

    Args:
        image: a square image, RGB.
        rng: random generator.

    Returns:
        (side, side, 3), RGB.
    """
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3))), np.float32)
    side = image.width
    slopes = rng.uniform(-0.4, 0.4, (2, 1)) * np.linspace(-0.5, 0.5, side)
    light = 1 + slopes[0][:, None] + slopes[1]
    black, white = rng.uniform(0, 70), rng.uniform(170, 255)
    lit = (black + soft * ((white - black) / 255)) * (light / light.max())[..., None]
    # The same in all channels: coloured grain is noise, and is to be removed.
    paper = rng.standard_normal((side, side, 1)) * rng.uniform(0, 2)
    return np.asarray(np.clip(np.rint(lit + paper), 0, 255), np.uint8)


@dataclass(frozen=True)
class _Canvas:
    """What is drawn on, and with what."""

    draw: ImageDraw.ImageDraw
    rng: np.random.Generator
    side: int
    ink: Color
    fonts: Sequence[Path]

    def number(self, low: int, high: int) -> int:
        """Draw a whole number from ``low`` to ``high`` inclusive."""
        return int(self.rng.integers(low, high + 1))

    def color(self, own: float = 0.0) -> Color:
        """Return the ink with probability ``own``, else a random colour."""
        return self.ink if self.rng.random() < own else _color(self.rng)

    def font(self, smallest: int, largest: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """Return a random font; the size is log-uniform."""
        size = round(float(np.exp(self.rng.uniform(np.log(smallest), np.log(largest)))))
        chosen = self.number(0, len(self.fonts))
        if chosen == 0:
            return ImageFont.load_default(size)
        return ImageFont.truetype(self.fonts[chosen - 1], size)

    def text(self, count: int) -> str:
        """Return ``count`` words of random letters, some as numbers or with punctuation."""
        words = []
        for _ in range(count):
            letters = self.rng.integers(0, len(_LETTERS), self.number(1, 9))
            word, kind = "".join(_LETTERS[i] for i in letters), self.rng.random()
            if kind < 0.2:
                word = str(self.number(0, 99_999)) if kind < 0.08 else word.title()
            words.append(word + (",.;:-)"[self.number(0, 5)] if self.rng.random() < 0.12 else ""))
        return " ".join(words)


def _two_colors(rng: np.random.Generator) -> tuple[Color, Color]:
    """Draw a background and an ink: often dark on white, always far apart in brightness."""
    if rng.random() < 0.4:
        paper, ink = int(rng.integers(240, 256)), int(rng.integers(0, 50))
        return (paper, paper, paper), (ink, ink, ink)
    while True:
        back, ink_color = _color(rng), _color(rng)
        if abs(sum(back) - sum(ink_color)) > 300:
            return back, ink_color


def _color(rng: np.random.Generator) -> Color:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _page(canvas: _Canvas) -> None:
    """Draw paragraphs, each in a font, a size and sometimes a colour of its own."""
    top = canvas.number(0, 20)
    while top < canvas.side:
        font, fill = canvas.font(8, 40), canvas.color(own=0.8)
        step = round(1.3 * float(getattr(font, "size", 12)))
        left = canvas.number(0, canvas.side // 3)
        for _ in range(canvas.number(1, 8)):
            canvas.draw.text((left, top), canvas.text(canvas.number(2, 14)), fill, font)
            top += step
        top += canvas.number(0, 2 * step)


def _interface(canvas: _Canvas) -> None:
    """Draw a title bar, buttons, frames, lines, icons and short texts."""
    draw = canvas.draw
    draw.rectangle((0, 0, canvas.side, canvas.number(16, 48)), canvas.color())
    for _ in range(canvas.number(30, 90)):
        left, top = (canvas.number(0, canvas.side - 8) for _ in range(2))
        width, height = canvas.number(8, 200), canvas.number(8, 48)
        fill = canvas.color() if canvas.rng.random() < 0.4 else None
        line, kind = canvas.color(own=0.7), canvas.number(0, 4)
        if kind == 0:
            box = (left, top, left + width, top + height)
            draw.rounded_rectangle(box, canvas.number(0, 4), fill, line)
        elif kind == 1:
            draw.ellipse((left, top, left + height, top + height), fill, line, canvas.number(1, 3))
        elif kind == 2:
            draw.line((left, top, left + width, top), line, canvas.number(1, 3))
        else:
            draw.text((left, top), canvas.text(canvas.number(1, 4)), line, canvas.font(9, 24))


def _chart(canvas: _Canvas) -> None:
    """Draw axes with labels, and curves, bars or sectors."""
    draw, ink, font = canvas.draw, canvas.ink, canvas.font(9, 20)
    low = canvas.number(16, canvas.side // 6)
    high = canvas.side - low
    draw.rectangle((low, low, high, high), outline=ink)
    for x in range(low, high, canvas.number(20, 80)):
        draw.line((x, low, x, high), canvas.color(own=0.5))
        draw.text((x, high + 4), str(x), ink, font)
    kind, count = canvas.number(0, 2), canvas.number(3, 12)
    for index in range(count):
        color, width = canvas.color(), (high - low) / count
        if kind == 0:
            t = np.linspace(0, 1, 100)
            wave = np.sin(t * canvas.number(2, 30) + index) * canvas.rng.uniform(0.1, 0.45) + 0.5
            points = low + (high - low) * np.stack([t, wave], 1)
            draw.line([(x, y) for x, y in points.tolist()], color, canvas.number(1, 4), "curve")
        elif kind == 1:
            left = low + index * width
            draw.rectangle((left, canvas.number(low, high), left + 0.7 * width, high), color, ink)
        else:
            start = 360 * index / count
            draw.pieslice((low, low, high, high), start, start + 360 / count, color, ink)
    draw.text((low, low // 3), canvas.text(5), ink, font)


def _pixel_art(canvas: _Canvas) -> None:
    """Draw squares of a few colours: pixel art, dither and QR-like patterns."""
    unit = canvas.number(1, 12)
    colors = [canvas.ink, *(canvas.color() for _ in range(canvas.number(1, 8)))]
    run = canvas.number(1, 4)  # squares of one colour next to each other
    for row in range(0, canvas.side, unit):
        for column in range(0, canvas.side, run * unit):
            box = (column, row, column + run * unit - 1, row + unit - 1)
            if (chosen := canvas.number(0, len(colors))) < len(colors):
                canvas.draw.rectangle(box, colors[chosen])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the images")
    parser.add_argument("--count", type=positive_number, default=300, help="(%(default)s)")
    parser.add_argument("--size", type=positive_number, default=512, help="side (%(default)s)")
    parser.add_argument("--seed", type=positive_number, default=1, help="(%(default)s)")
    options = parser.parse_args(argv)
    return run_entry_point(lambda: write(options), "run the same command again to continue")


def write(options: argparse.Namespace) -> None:
    """Render the images of a command line.

    Raises:
        VHeatIRError: the size is too small, or the folder cannot be written to.
    """
    if options.size < _SMALLEST_SIDE:
        raise VHeatIRError(f"--size {options.size}: give at least {_SMALLEST_SIDE} pixels")
    fonts = find_fonts()
    console = Console(stderr=True)
    for index in track(range(options.count), "rendering", console=console, transient=True):
        path = options.folder / f"graphics_{options.seed}_{index:04}.png"
        if path.exists():
            continue
        image = render(np.random.default_rng([options.seed, index]), options.size, fonts)
        try:
            write_bytes_atomically(path, encode_image(image, ".png"))
        except OSError as error:
            raise VHeatIRError(
                f"{path} cannot be written ({error.strerror}): give another folder"
            ) from None
    sys.stdout.write(f"{options.count} images in {options.folder}\n")


if __name__ == "__main__":
    sys.exit(main())
