"""Bad image files: truncated, bit flips, lying headers, bombs, other formats, odd modes.

Each has an expected result: an array if the file is valid after all, REFUSED if it must give an
error, EITHER if the damage may go unnoticed.
"""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from PIL import Image, features

REFUSED, EITHER = "refused", "either"


@dataclass(frozen=True)
class Bad:
    """One file: name with suffix, bytes, and the expected result."""

    name: str
    data: bytes
    right: Any


def pixels(height: int = 24, width: int = 31, channels: int = 3, dtype: Any = np.uint8) -> Any:
    shape = (height, width) if channels == 1 else (height, width, channels)
    high = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, high, shape, dtype, endpoint=True)


def save(image: Any, kind: str, **options: Any) -> bytes:
    opened = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    opened.save(out, kind, **options)
    return out.getvalue()


def decoded(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def wholes() -> dict[str, tuple[str, bytes]]:
    """Return good files: name to (suffix, bytes)."""
    image, deep = pixels(), pixels(dtype=np.uint16)
    deep_tiff = io.BytesIO()
    tifffile.imwrite(deep_tiff, deep, photometric="rgb")
    import cv2

    return {
        "png": (".png", save(image, "PNG")),
        "deep_png": (".png", cv2.imencode(".png", deep)[1].tobytes()),
        "interlaced": (".png", save(image[:, :, 0], "PNG", dpi=(72, 72), exif=Image.Exif())),
        "jpeg": (".jpg", save(image, "JPEG")),
        "progressive": (".jpg", save(image, "JPEG", progressive=True, quality=60)),
        "tiff": (".tif", save(image, "TIFF")),
        "lzw": (".tif", save(image, "TIFF", compression="tiff_lzw")),
        "deep_tiff": (".tif", deep_tiff.getvalue()),
        "webp": (".webp", save(image, "WEBP", lossless=True)),
        "lossy_webp": (".webp", save(image, "WEBP")),
        "bmp": (".bmp", save(image, "BMP")),
        "ppm": (".ppm", save(image, "PPM")),
        "gif": (".png", save(image, "GIF")),
        **heif_files(),
    }


def heif_files() -> dict[str, tuple[str, bytes]]:
    """Return good HEIF and AVIF files, as far as encoders are installed."""
    image, found = pixels(40, 52), {}
    if features.check("avif"):
        alpha = np.dstack([image, image[:, :, 0]])
        found["avif"] = (".avif", save(image, "AVIF", quality=90))
        found["alpha_avif"] = (".avif", save(alpha, "AVIF", quality=90))
    try:
        import pillow_heif
    except ImportError:
        return found
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, mode, options in (
        ("heic", "RGB", {}),
        ("tiled_heic", "RGB", {"tile_size": 32}),
        ("deep_heic", "RGB;16", {}),
        ("turned_heic", "RGB", {"exif": exif.tobytes()}),
    ):
        deep = image.astype(np.uint16) * 257 if ";" in mode else image
        file, out = pillow_heif.from_bytes(mode, (52, 40), deep.tobytes()), io.BytesIO()
        file.save(out, quality=80, **options)
        found[name] = (".heic", out.getvalue())
    return found


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"", depth: int = 8) -> bytes:
    """Return a gray PNG with an arbitrary header."""
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(count: int) -> bytes:
    """Compress ``count`` zeros, about a thousandfold, without allocating them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join(parts) + packer.compress(bytes(count % (1 << 20))) + packer.flush()


def bmp(width: int, height: int) -> bytes:
    body = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + body + bytes(64)


def tiff(width: int, height: int, strip: int = 8) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1),
            (273, 4, strip), (277, 3, 1), (278, 4, height), (279, 4, 2**31)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def overlapping(count: int, entries: int) -> bytes:
    """Return a TIFF with nested directories that all extend to its end."""
    start = 26 + 4 * count
    tag = struct.pack("<IHHHIII", 8, 1, 330, 4, count, 26, 0)
    places = (struct.pack("<I", start + 2 * number) for number in range(count))
    return b"II*\0" + tag + b"".join(places) + b"\xff" * 2 * count + bytes(12 * entries)


def bombs() -> list[Bad]:
    side, many = 13_000, 2**31 - 1
    rows = zeros(side * (side + 1))
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    jpeg = b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00" + scan + b"\xff\xd9"
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"\x2c" + bytes(4)
    text = b"k\0\0" + zeros(1 << 26)
    return [
        Bad("bomb_pixels.png", png(side, side, rows), REFUSED),
        Bad("bomb_header.png", png(60_000, 60_000), REFUSED),
        Bad("bomb_text.png", png(4, 4, zeros(20), chunk(b"zTXt", text)), EITHER),
        Bad("bomb_profile.png", png(4, 4, zeros(20), chunk(b"iCCP", text)), EITHER),
        Bad("bomb_more_rows.png", png(4, 4, zeros(1 << 26)), EITHER),
        *(Bad(f"wide_{w & 0xFFFFFFFF}_{h & 0xFFFFFFFF}.png", png(w, h, zeros(64)), REFUSED)
          for w, h in ((many, many), (many + 1, 1), (1, many + 1), (-1, -1), (0, 5), (5, 0))),
        *(Bad(f"wide_{abs(w)}_{abs(h)}_{n}.bmp", bmp(w, h), REFUSED)
          for n, (w, h) in enumerate(((many, many), (-many, 3), (many, -many), (1, -many)))),
        *(Bad(f"wide_{w}_{h}.tif", tiff(w, h), REFUSED)
          for w, h in ((many, many), (2**32 - 1, 1), (1, 2**31), (0, 0), (70_000, 70_000))),
        Bad("strip_outside.tif", tiff(8, 8, 2**31), REFUSED),
        Bad("wide.jpg", jpeg, REFUSED),
        Bad("fill_bytes.jpg", save(pixels(), "JPEG")[:-2] + b"\xff" * 100_000 + b"\0", REFUSED),
        Bad("overlapping.tif", overlapping(64, 50_000), REFUSED),
        Bad("wide.webp", b"RIFF" + struct.pack("<I", 22) + b"WEBP" + webp, REFUSED),
        Bad("wide_gif.png", gif, REFUSED),
        *(Bad(f"wide_{i}.ppm", head, REFUSED) for i, head in enumerate(
            (b"P6 2147483648 2147483648 255\n", b"P6 99999999999999999999 1 255\n\0",
             b"P5 1 2147483648 65535\n", b"P6 -4 4 255\n" + bytes(48), b"P6 4 4 0\n" + bytes(48),
             b"P6 4 4 70000\n" + bytes(96), b"P3 4 4 255\n 1 2 x"))),
    ]  # fmt: skip


def heif_bombs() -> list[Bad]:
    """Return HEIF and AVIF files with wrong boxes: sizes, items, tiles, offsets, profiles."""
    found = []
    for name, (suffix, data) in heif_files().items():

        def patched(box: bytes, after: int, new: bytes, data: bytes = data) -> bytes:
            at = data.index(box) + 4 + after
            return data[:at] + new + data[at + len(new) :]

        for width, height in ((2**32 - 1, 2**32 - 1), (70_000, 70_000), (2**31, 1), (0, 9)):
            size = patched(b"ispe", 4, struct.pack(">II", width, height))
            found.append(Bad(f"wide_{width}_{height}_{name}{suffix}", size, REFUSED))
        found += [
            Bad(f"{what}_{name}{suffix}", bad, right)
            for what, bad, right in (
                ("count", patched(b"iloc", 6, b"\xff\xff"), EITHER),
                ("primary", patched(b"pitm", 4, b"\x77\x77"), REFUSED),
                ("associations", patched(b"ipma", 4, b"\xff\xff\xff\xff"), EITHER),
                ("hdr", patched(b"colr", 6, b"\0\x10"), EITHER),
                ("long_meta", patched(b"meta", -8, b"\xff\xff\xff\xff"), EITHER),
                ("no_meta", data.replace(b"meta", b"free", 1), REFUSED),
                ("in_64_bits", patched(b"meta", -8, b"\0\0\0\1"), REFUSED),
                ("own_tile", data.replace(b"hvc1", b"grid").replace(b"av01", b"iden"), REFUSED),
            )
        ]
    return found


def strangers() -> list[Bad]:
    """Return files of unsupported types with image suffixes."""
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(1 << 20))
    with tarfile.open(fileobj=tar, mode="w:gz") as folder:
        folder.addfile(tarfile.TarInfo("../../etc/passwd"))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///'
    contents = {
        "empty": b"", "byte": b"\0", "text": b"hello", "svg": svg + b'etc/passwd"/></svg>',
        "zip": archive.getvalue(), "tar": tar.getvalue(), "gzip": zlib.compress(b"x"),
        "html": b"<!doctype html><img src=x>", "pdf": b"%PDF-1.7\n", "elf": b"\x7fELF" + bytes(99),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "ico": b"\0\0\1\0\1\0" + bytes(40), "psd": b"8BPS\0\1" + bytes(60), "pcx": b"\x0a\5\1\x08",
        "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "heic": b"\0\0\0\x18ftypheic" + bytes(50),
        "avif": b"\0\0\0\x18ftypavif" + bytes(50), "exr": b"v/1\1" + bytes(60),
        "hdr": b"#?RADIANCE\n\n-Y 9999999 +X 9999999\n", "xpm": b"/* XPM */\nstatic char*a[]={};",
        "sgi": b"\x01\xda" + bytes(600), "fits": b"SIMPLE  =                    T",
        "png_magic": b"\x89PNG\r\n\x1a\n", "jpeg_magic": b"\xff\xd8\xff", "tiff_magic": b"II*\0",
        "tiff_loop": b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "webp_magic": b"RIFF\0\0\0\0WEBP",
        "bmp_magic": b"BM", "ppm_magic": b"P6", "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "bigtiff": b"II+\0\x08\0\0\0" + b"\xff" * 8, "nulls": bytes(5000), "ones": b"\xff" * 5000,
    }  # fmt: skip
    suffixes = (".png", ".jpg", ".tif", ".webp", ".bmp")
    return [
        Bad(f"no_{name}{suffixes[i % 5]}", data, REFUSED)
        for i, (name, data) in enumerate(contents.items())
    ]


def odd() -> list[Bad]:
    """Return images of odd sizes and modes, and with several pages or frames."""
    rgb, gray = Image.fromarray(pixels()), Image.fromarray(pixels(channels=1))
    floats = np.linspace(0, 1, 24 * 31, dtype=np.float32).reshape(24, 31)
    nan, infinite = floats.copy(), floats.copy()
    nan[3, 4], infinite[5, 6] = np.nan, np.inf
    pages = {"save_all": True, "append_images": [Image.new("RGB", (31, 24), "red")]}
    more = rgb.convert("RGBA")
    found = [
        Bad("cmyk.jpg", save(rgb.convert("CMYK"), "JPEG"), REFUSED),
        Bad("cmyk.tif", save(rgb.convert("CMYK"), "TIFF"), REFUSED),
        Bad("lab.tif", save(rgb.convert("LAB"), "TIFF"), REFUSED),
        Bad(
            "palette.png",
            save(rgb.convert("P"), "PNG"),
            np.asarray(rgb.convert("P").convert("RGB")),
        ),
        Bad("bits.png", save(gray.convert("1"), "PNG"), np.asarray(gray.convert("1").convert("L"))),
        Bad(
            "bits.tif", save(gray.convert("1"), "TIFF"), np.asarray(gray.convert("1").convert("L"))
        ),
        Bad("alpha.png", save(more, "PNG"), np.asarray(more)),
        Bad("gray_alpha.png", save(gray.convert("LA"), "PNG"), np.asarray(gray.convert("LA"))),
        Bad("float.tif", save(Image.fromarray(floats), "TIFF"), REFUSED),
        Bad("nan.tif", save(Image.fromarray(nan), "TIFF"), REFUSED),
        Bad("infinite.tif", save(Image.fromarray(infinite), "TIFF"), REFUSED),
        Bad(
            "long.tif", save(Image.fromarray(pixels(channels=1).astype(np.int32)), "TIFF"), REFUSED
        ),
        Bad("pages.tif", save(rgb, "TIFF", **pages), REFUSED),
        Bad("animated_gif.png", save(rgb, "GIF", **pages), REFUSED),
        Bad("animated.png", save(rgb, "PNG", **pages), REFUSED),
        Bad("animated.webp", save(rgb, "WEBP", **pages), REFUSED),
    ]
    for height, width in ((1, 1), (1, 2), (1, 10_000), (10_000, 1), (3, 65_500), (65_500, 2)):
        for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg"), ("TIFF", ".tif"), ("BMP", ".bmp")):
            data = save(pixels(height, width), kind)
            found.append(Bad(f"size_{height}x{width}_{kind}{suffix}", data, decoded(data)))
    tall = save(pixels(16_383, 1), "WEBP", lossless=True)
    return [*found, Bad("size_tall.webp", tall, decoded(tall))]


def make(seed: int = 0) -> list[Bad]:
    """Return the whole corpus, at least 200 files with different stems."""
    rng = random.Random(seed)
    found = [*bombs(), *heif_bombs(), *strangers(), *odd()]
    suffixes = [".png", ".jpg", ".tif", ".webp", ".bmp"]
    for name, (suffix, data) in wholes().items():
        right = REFUSED if name == "gif" else EITHER
        for part in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
            cut = data[: int(len(data) * part)]
            found.append(Bad(f"cut_{name}_{int(100 * part)}{suffix}", cut, REFUSED))
        found.append(Bad(f"cut_{name}_last{suffix}", data[:-1], right))
        for number in range(8):
            flipped = bytearray(data)
            # headers are short, so half of the flips go there
            end = 8 * (len(data) if number % 2 else min(len(data), 120))
            for bit in rng.sample(range(end), 1 + number // 4):
                flipped[bit // 8] ^= 1 << bit % 8
            found.append(Bad(f"flip_{name}_{number}{suffix}", bytes(flipped), right))
        # only one of the two readers supports HEIF and AVIF
        if name not in ("gif", "deep_png", "deep_tiff") and suffix in (*suffixes, ".ppm"):
            other = suffixes[(suffixes.index(suffix) + 1) % 5 if suffix in suffixes else 0]
            found.append(Bad(f"renamed_{name}{other}", data, decoded(data)))
        found.append(Bad(f"twice_{name}{suffix}", data + data, right))
    return found
