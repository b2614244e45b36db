"""Looks at the structure of a JPEG without decoding it, and knows what libjpeg says of one that it mends."""

import re

import numpy as np

MAGIC, END = b"\xff\xd8", b"\xff\xd9"
# Baseline, extended and progressive frames; others (lossless, arithmetic) go through PIL.
_FRAMES = (0xC0, 0xC1, 0xC2)
_SCAN, _TABLES_AND_NOTES = 0xDA, (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))
# In a scan's data a 255 is followed by a 0, by the number of a restart or by another 255; all else ends the data.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_LONG = 1 << 14  # bytes from which on NumPy is faster, and lets go of the interpreter
# The messages of libjpeg's jerror.h that mean that pixels were made up. It prints the first of an image on stderr.
_MADE_UP = re.compile(
    rb"(?:Corrupt JPEG data|Premature end of JPEG file|Inconsistent progression sequence|Invalid SOS parameters)[^\n]*"
)


def frame(content: bytes) -> tuple[int, int] | None:
    """Return height and width of a whole JPEG as usual: 8-bit grey or three channels, its scans up to its very end.

    Anything else is None: more or less than that, an odd marker between or in the scans, bytes after the end. Its
    decoder has to say what it is. Data that was changed within a scan is not seen.
    """
    size, at = None, 2
    try:
        while True:
            marker = content[at + 1]
            if content[at] != 0xFF:
                return None
            if marker == 0xFF:
                at += 1
            elif marker in _FRAMES and size is None:
                if content[at + 4] != 8 or content[at + 9] not in (1, 3):
                    return None
                size = (content[at + 5] << 8) | content[at + 6], (content[at + 7] << 8) | content[at + 8]
                at += 2 + (content[at + 2] << 8) + content[at + 3]
            elif marker in _TABLES_AND_NOTES:
                at += 2 + (content[at + 2] << 8) + content[at + 3]
            elif marker == _SCAN and size is not None:
                data = at + 2 + (content[at + 2] << 8) + content[at + 3]
                if _one_scan_is_left(content, data):
                    return size
                found = _MARKER.search(content, data)
                if found is None:
                    return None
                at = found.start()
                if content[at + 1] == END[1]:
                    return size if at + 2 == len(content) else None
            else:
                return None
    except IndexError:
        return None


def _one_scan_is_left(content: bytes, at: int) -> bool:
    """Whether there is nothing but one scan's data, without restarts, and the end after it. Cheap for long files."""
    if len(content) - at < _LONG or content[-2:] != END:
        return False
    data = np.frombuffer(content, np.uint8, offset=at)
    odd = data[:-1] == 255
    odd &= data[1:] != 0
    return int(np.count_nonzero(odd)) == 1


def mended_images(printed: bytes) -> list[str]:
    """Return libjpeg's messages about images whose pixels it made up in part, from what was printed on stderr."""
    return [match.decode("ascii", "replace").strip() for match in _MADE_UP.findall(printed)]
