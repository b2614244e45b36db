"""Reads encoded image files, finds out their size, and refuses what is not a whole image."""

import io
import os
import stat

import numpy as np
from PIL import Image

from resnet.data.errors import DataError

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# Baseline, extended and progressive frames; others (lossless, arithmetic) go through PIL.
_FRAMES = (0xC0, 0xC1, 0xC2)


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
        raise DataError(f"{path}: not an image that can be read; expected JPEG or PNG") from error


def load_image(path: str, image: Image.Image) -> Image.Image:
    """Decode an opened image to RGB; `DataError` where its data ends early or makes no sense."""
    try:
        image.load()
        return to_rgb(image)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged or truncated image ({reason})") from error


def encode_ppm(image: Image.Image) -> bytes:
    """Encode an RGB image as binary PPM, the form that costs next to nothing."""
    return b"P6\n%d %d\n255\n" % image.size + image.tobytes()


def _jpeg_frame(content: bytes) -> tuple[int, int] | None:
    """Return height and width from a JPEG's header where it is 8-bit grey or three-channel, else None."""
    at = 2
    try:
        while True:
            if content[at] != 0xFF:
                return None
            marker = content[at + 1]
            if marker == 0xFF:
                at += 1
            elif marker in _FRAMES:
                if content[at + 4] != 8 or content[at + 9] not in (1, 3):
                    return None
                return (content[at + 5] << 8) | content[at + 6], (content[at + 7] << 8) | content[at + 8]
            elif marker == 0xDA or 0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                return None
            else:
                at += 2 + (content[at + 2] << 8) + content[at + 3]
    except IndexError:
        return None


def _png_header(content: bytes) -> tuple[int, int] | None:
    """Return height and width from a PNG's header where it is 8-bit grey or RGB, else None."""
    if len(content) < 33 or content[12:16] != b"IHDR" or content[24] != 8 or content[25] not in (0, 2):
        return None
    return int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")


def check(path: str, content: bytes) -> tuple[bytes, int, int]:
    """Make sure that an encoded image is whole, and give it in a form that every decoder reads alike.

    A JPEG ends with its end-of-image marker and a PNG with its last chunk, which is all that is looked at in the usual
    case (JPEG decoders paint the missing rest of a truncated file grey and say nothing). Where the end is not as
    expected PIL decodes the file strictly: trailing bytes pass, a truncated image does not. Other formats and modes
    (CMYK, palette, alpha, 16 bits) are decoded by PIL and passed on as PPM.

    Returns:
        The bytes to decode, height and width.

    Raises:
        DataError: It is no image, damaged or truncated.
    """
    size = None
    if content.startswith(_JPEG):
        size = _jpeg_frame(content)
        if size is not None and content[-2:] != b"\xff\xd9":
            decode(path, content)
    elif content.startswith(_PNG):
        size = _png_header(content) if content[-8:-4] == b"IEND" else None
    if size is None:
        image = decode(path, content)
        return encode_ppm(image), image.height, image.width
    if size[0] == 0 or size[1] == 0:
        raise DataError(f"{path}: an image of {size[1]} x {size[0]} pixels")
    return content, *size
