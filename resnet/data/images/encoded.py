"""Reads encoded image files, finds out their size, and refuses what is not a whole image."""

import io
import os
import stat
import warnings
import zlib

import numpy as np
from PIL import Image

from resnet.data.errors import DataError
from resnet.data.images import jpeg

PNG = b"\x89PNG\r\n\x1a\n"
# What Pillow warns of is no damage of the picture, which it refuses: tags that are cut or odd, and transparency, which
# is dropped here anyway. Each worker would say it of each kind of file. Its warnings of too many pixels are of another
# category, and stay.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def read_file(path: str) -> bytes:
    """Return a file's bytes.

    Raises:
        DataError: It is missing or cannot be read.
    """
    # Plain system calls: at tens of thousands of small files a second, Python's file objects cost as much as decoding.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe, too, opens at once
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: not a regular file; expected an image")
            expected = status.st_size
            content = os.read(handle, expected + 1)
            while len(content) < expected:
                more = os.read(handle, expected - len(content))
                if not more:
                    break
                content += more
        finally:
            os.close(handle)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return content


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit RGB: grey is repeated, alpha dropped, 16 bits cut to the upper eight."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def decode(path: str, content: bytes) -> Image.Image:
    """Decode a whole image strictly, with PIL, to RGB.

    Raises:
        DataError: It is no image, damaged or truncated.
    """
    image = open_image(path, content)
    return load_image(path, image)


def decode_image(path: str) -> Image.Image:
    """Read and decode a whole image file strictly, with PIL, to RGB; errors as of `decode`."""
    return decode(path, read_file(path))


def open_image(path: str, content: bytes) -> Image.Image:
    """Read an image's header with PIL; `DataError` where there is none."""
    if not content:
        raise DataError(f"{path}: empty file; expected an image")
    try:
        return Image.open(io.BytesIO(content))
    except Exception as error:
        # PIL's plugins raise OSError, SyntaxError, ValueError, struct.error and others on damaged headers.
        raise DataError(
            f"{path}: not an image that can be read; expected JPEG, PNG, WebP, BMP, GIF, TIFF or PPM"
        ) from error


def load_image(path: str, image: Image.Image) -> Image.Image:
    """Decode an opened image to RGB; `DataError` where its data ends early or makes no sense."""
    try:
        image.load()
        return to_rgb(image)
    except MemoryError:  # not the file's fault
        raise MemoryError(f"{path}: no memory to decode it") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged or truncated image ({reason})") from error


def encode_ppm(image: Image.Image) -> bytes:
    """Encode an RGB image as binary PPM, the form that costs next to nothing."""
    return b"P6\n%d %d\n255\n" % image.size + image.tobytes()


def _png_header(content: bytes) -> tuple[int, int] | None:
    """Return height and width of a PNG as usual: 8-bit grey or RGB, whole to its last chunk, checksums right."""
    if content[12:16] != b"IHDR" or content[24:25] != b"\x08" or content[25:26] not in (b"\0", b"\2"):
        return None
    if wrong_chunk(content) or content.find(_PNG_END) + len(_PNG_END) != len(content):
        return None
    return int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")


def wrong_chunk(content: bytes) -> str:
    """Return the name of a PNG's first chunk that is cut or whose checksum is wrong; empty where all are right."""
    at = len(PNG)
    while True:
        end, name = at + 12 + int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if end > len(content) or zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            return name.decode("ascii", "backslashreplace") or "IEND"
        if name == b"IEND":
            return ""
        at = end


def check(path: str, content: bytes) -> tuple[bytes, int, int]:
    """Make sure that an encoded image is whole, and give it in a form that every decoder reads alike.

    In the usual case it is enough to look at the marks between its parts (`jpeg.frame`, and the checksums of a PNG).
    Where these are not as usual PIL decides by decoding the file strictly: trailing bytes pass, a truncated image does
    not. Other formats and modes (CMYK, palette, alpha, 16 bits) are decoded by PIL and passed on as PPM.

    JPEG decoders mend what is wrong within a scan's data, and paint grey what is missing: `python -m bench.check_data`
    finds that, by decoding.

    Returns:
        The bytes to decode, height and width.

    Raises:
        DataError: It is no image, damaged or truncated.
    """
    if content.startswith(jpeg.MAGIC):
        size = jpeg.frame(content)
    else:
        size = _png_header(content) if content.startswith(PNG) else None
    if size is None:
        image = decode(path, content)
        return encode_ppm(image), image.height, image.width
    if size[0] == 0 or size[1] == 0:
        raise DataError(f"{path}: an image of {size[1]} x {size[0]} pixels")
    return content, *size
