"""Images of every format that is read, and damage to them."""

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image

SIZE = (60, 46)  # below twice the size at which they are read, so that both loaders decode them whole


def picture(mode: str) -> Image.Image:
    """Smooth colours with some grain: damage to its data shows."""
    generator = np.random.default_rng(3)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
        SIZE, Image.Resampling.BICUBIC
    )
    grain = generator.integers(-12, 13, (SIZE[1], SIZE[0], 3))
    image = Image.fromarray(np.clip(np.asarray(coarse).astype(int) + grain, 0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256 + 77)
    if mode == "RGBA":
        image.putalpha(200)
    return image.convert(mode)


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, form, **options)
    return buffer.getvalue()


# By name, which ends in the ending of its file.
FORMATS: dict[str, bytes] = {
    "baseline.jpg": encoded("JPEG", quality=90),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "restarts.jpg": encoded("JPEG", restart_marker_rows=1),
    "grey.jpg": encoded("JPEG", "L"),
    "cmyk.jpg": encoded("JPEG", "CMYK"),
    "rgb.png": encoded("PNG"),
    "palette.png": encoded("PNG", "P"),
    "alpha.png": encoded("PNG", "RGBA"),
    "wide.png": encoded("PNG", "I;16"),
    "lossy.webp": encoded("WEBP"),
    "lossless.webp": encoded("WEBP", lossless=True),
    "plain.bmp": encoded("BMP"),
    "plain.gif": encoded("GIF", "P"),
    "raw.tif": encoded("TIFF"),
    "deflate.tif": encoded("TIFF", compression="tiff_deflate"),
    "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
    "plain.ppm": encoded("PPM"),
}
FIRST_SCAN_ENDS = FORMATS["progressive.jpg"].index(b"\xff\xc4", FORMATS["progressive.jpg"].index(b"\xff\xda"))
# What ends a file of a format.
ENDS = {".jpg": b"\xff\xd9", ".png": b"\0\0\0\0IEND\xaeB`\x82", ".gif": b"\0;"}
HEADER = 60  # bytes of a file that are swapped for those of another format


def ending(name: str) -> str:
    return name[name.rindex(".") :]


def data_of(name: str) -> range:
    """Where the data of a picture lie in its file, compressed or not."""
    content, kind = FORMATS[name], ending(name)
    if kind == ".jpg":  # of the first scan
        start = content.index(b"\xff\xda")
        return range(start + 2 + int.from_bytes(content[start + 2 : start + 4], "big"), len(content) - 2)
    if kind == ".png":
        start = content.index(b"IDAT")
        return range(start + 4, start + 4 + int.from_bytes(content[start - 4 : start], "big"))
    if kind == ".webp":
        start = content.index(b"VP8")
        return range(start + 8 + 10, start + 8 + int.from_bytes(content[start + 4 : start + 8], "little"))
    if kind == ".bmp":
        return range(int.from_bytes(content[10:14], "little"), len(content))
    if kind == ".gif":  # behind the descriptor of its only image, without a palette of its own
        return range(content.rindex(b",\0\0\0\0") + 11, len(content) - 2)
    if kind == ".tif":
        with Image.open(io.BytesIO(content)) as image:
            start, length = image.tag_v2[273][0], sum(image.tag_v2[279])  # type: ignore[attr-defined]
        return range(start, start + length)
    return range(len(content) - 3 * SIZE[0] * SIZE[1], len(content))


def cut(name: str, chance: random.Random) -> bytes:
    """Within the picture's data: of a progressive JPEG those of its first scan, since behind a scan it is whole."""
    data = data_of(name)
    if name == "progressive.jpg":
        data = range(data.start, FIRST_SCAN_ENDS)
    return FORMATS[name][: chance.randrange(data.start, data.start + len(data) * 9 // 10)]


def cut_and_closed(name: str, chance: random.Random) -> bytes:
    """Cut, and with the end of a whole file behind it."""
    return cut(name, chance) + ENDS.get(ending(name), b"")


def flipped(name: str, chance: random.Random) -> bytes:
    """A bit of the picture's data."""
    content = bytearray(FORMATS[name])
    content[chance.choice(data_of(name))] ^= 1 << chance.randrange(8)
    return bytes(content)


def flipped_header(name: str, chance: random.Random) -> bytes:
    """A bit of what stands before the picture's data."""
    content = bytearray(FORMATS[name])
    content[chance.randrange(max(1, min(data_of(name).start, 700)))] ^= 1 << chance.randrange(8)
    return bytes(content)


def flips(name: str, count: int) -> dict[str, bytes]:
    """So many files with a bit flipped in the picture's data, by name, always the same."""
    chance = random.Random(name)
    return {f"{number:03d}-flipped-{name}": flipped(name, chance) for number in range(count)}


def swapped(name: str, chance: random.Random) -> bytes:
    """The start of a file of another format."""
    others = [content for other, content in FORMATS.items() if ending(other) != ending(name)]
    return chance.choice(others)[:HEADER] + FORMATS[name][HEADER:]


DAMAGES: tuple[Callable[[str, random.Random], bytes], ...] = (cut, cut_and_closed, flipped, flipped_header, swapped)


def damaged(count: int, seed: int) -> dict[str, bytes]:
    """So many damaged images by name, "NUMBER-DAMAGE-FORMAT", all formats and damages in turn."""
    chance, found = random.Random(seed), {}
    for number in range(count):
        name = list(FORMATS)[number % len(FORMATS)]
        damage = DAMAGES[(number // len(FORMATS) + number) % len(DAMAGES)]
        found[f"{number:03d}-{damage.__name__}-{name}"] = damage(name, chance)
    return found
