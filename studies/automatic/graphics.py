"""Clean images other than photographs: rendered screenshots, drawings and text."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
SIDE = 256
_COUNT = 8
_WORDS = (
    "Heat flows from warm to cold until all is even; the cosine transform of a plate makes every "
    "pattern fade at its own rate. Noise is what fades first. "
)


def clean_graphics() -> dict[str, Pixels]:
    """Return eight screenshots, drawings and pages of text each, and scikit-image's two pages.

    Returns:
        Dict of name to ``uint8`` (256, 256, 3), RGB; scikit-image's page has fewer rows.
    """
    made = {f"screenshot {i}": _screenshot(i) for i in range(_COUNT)}
    made |= {f"drawing {i}": _drawing(i) for i in range(_COUNT)}
    made |= {f"text {i}": _text(i) for i in range(_COUNT)}
    return made | {f"scikit-image {name}": _page(name) for name in ("page", "text")}


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _screenshot(number: int) -> Pixels:
    """Windows with a title bar, buttons, lists and an icon."""
    rng = np.random.default_rng([1, number])
    dark = number % 2 == 1
    back, front = ((30, 32, 38), (225, 228, 232)) if dark else ((246, 246, 248), (28, 30, 34))
    accent = tuple(int(v) for v in rng.integers(40, 230, 3))
    image = Image.new("RGB", (SIDE, SIDE), back)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE, 26), fill=accent)
    draw.text((8, 5), f"Window {number + 1}", font=_font(13), fill=(255, 255, 255))
    for row in range(7):
        top = 36 + 30 * row
        draw.rounded_rectangle((8, top, 160, top + 22), 5, outline=front, width=1)
        draw.text((14, top + 3), _WORDS[7 * row + number :][:20], font=_font(12), fill=front)
        kind = int(rng.integers(3))
        if kind == 0:
            draw.rounded_rectangle((172, top, 244, top + 22), 8, fill=accent)
            draw.text((186, top + 4), "Apply", font=_font(12), fill=(255, 255, 255))
        elif kind == 1:
            draw.ellipse((176, top, 198, top + 22), outline=front, width=2)
        else:
            draw.line((172, top + 11, 244, top + 11), fill=front)
    return np.asarray(image)


def _drawing(number: int) -> Pixels:
    """Curves, bars, contours and pies, by matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rng = np.random.default_rng([2, number])
    figure, axes = plt.subplots(figsize=(2.56, 2.56), dpi=100)
    x = np.linspace(0, 6, 200)
    if number % 4 == 0:
        for k in range(4):
            axes.plot(x, np.sin(x * (k + 1) / 2 + rng.random()), linewidth=1 + k / 2)
    elif number % 4 == 1:
        axes.bar(range(8), rng.random(8), color=plt.cm.viridis(rng.random(8)))
    elif number % 4 == 2:
        y = x[:, None]
        axes.contourf(np.sin(x * rng.uniform(1, 2)) * np.cos(y), levels=8, cmap="magma")
    else:
        axes.pie(rng.random(6) + 0.2, labels=list("abcdef"))
    data = io.BytesIO()
    figure.savefig(data, format="png")
    plt.close(figure)
    with Image.open(data) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST))


def _text(number: int) -> Pixels:
    """A page of text; odd ones are light on dark."""
    paper, ink = ((255, 255, 255), (20, 20, 20)) if number % 2 == 0 else ((24, 26, 30), (230,) * 3)
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)
    size = 9 + 2 * number
    for line in range(SIDE // (size + 4) + 1):
        draw.text(
            (6, line * (size + 4)), (_WORDS * 3)[11 * line :][:60], font=_font(size), fill=ink
        )
    return np.asarray(image)


def _page(name: str) -> Pixels:
    """A scanned page from scikit-image."""
    from vheatir.bundled import photograph_folder
    from vheatir.colors import to_color_mode
    from vheatir.image_io import read_image

    image = to_color_mode(read_image(photograph_folder() / f"{name}.png"), "rgb")
    return np.ascontiguousarray(image[:SIDE, :SIDE])
