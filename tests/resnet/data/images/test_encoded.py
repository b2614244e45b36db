import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet.data.errors import DataError
from resnet.data.images import jpeg
from resnet.data.images.encoded import check, decode, encode_ppm, read_file, to_rgb

ROOT = Path(__file__).resolve().parents[4]


def photograph(height=40, width=56):
    """A smooth picture: JPEG keeps it well."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8))


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_read_file_returns_all_bytes(tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "a").write_bytes(content)
    assert read_file(str(tmp_path / "a")) == content
    (tmp_path / "b").write_bytes(b"")
    assert read_file(str(tmp_path / "b")) == b""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="gone.jpg: cannot be read"):
        read_file(str(tmp_path / "gone.jpg"))


@pytest.mark.parametrize(
    "content",
    [
        encoded(photograph(), "JPEG"),
        encoded(photograph(), "JPEG", progressive=True),
        encoded(photograph(), "JPEG", subsampling=0, comment=b"\xff\xc0 is no frame here"),
        encoded(photograph().convert("L"), "JPEG"),
        encoded(photograph(), "PNG"),
        encoded(photograph().convert("L"), "PNG"),
    ],
)
def test_common_forms_pass_untouched_with_their_size(content):
    assert check("a", content) == (content, 40, 56)


def test_an_embedded_thumbnail_does_not_confuse_the_size():
    thumbnail = encoded(photograph(8, 8), "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "thumbnail"
    plain = encoded(photograph(), "JPEG", exif=exif)
    # An application segment with a whole JPEG in it, before everything else.
    segment = b"\xff\xed" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    content = plain[:2] + segment + plain[2:]
    assert check("a", content) == (content, 40, 56)


@pytest.mark.parametrize(
    "content",
    [
        encoded(photograph().convert("CMYK"), "JPEG"),
        encoded(photograph().convert("RGBA"), "PNG"),
        encoded(photograph().convert("P"), "PNG"),
        encoded(photograph().convert("LA"), "PNG"),
        encoded(photograph().convert("1"), "PNG"),
        encoded(photograph(), "GIF"),
        encoded(photograph(), "BMP"),
        encoded(photograph(), "WEBP"),
        encoded(photograph(), "PNG")[:-12],
        encoded(photograph(), "PNG") + b"\0\0 trailing",
        encoded(photograph(), "JPEG") + b"\0\0 trailing",
        encoded(photograph(), "JPEG") + encoded(photograph(8, 8), "JPEG"),
    ],
)
def test_other_forms_become_ppm_with_the_same_pixels(content):
    ppm, height, width = check("a", content)
    assert ppm.startswith(b"P6\n56 40\n255\n") and (height, width) == (40, 56)
    decoded = np.asarray(Image.open(io.BytesIO(ppm)))
    assert (decoded == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).all()


def test_sixteen_bits_keep_their_upper_eight():
    wide = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    image = Image.open(io.BytesIO(encoded(Image.fromarray(wide), "PNG")))
    rgb = np.asarray(to_rgb(image))
    assert (rgb == (wide >> 8).astype(np.uint8)[:, :, None]).all()


JPEG = encoded(photograph(), "JPEG")
PNG = encoded(photograph(), "PNG")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image at all\n" * 20,
        JPEG[: len(JPEG) // 2],
        JPEG[:-2],
        JPEG[:150],
        JPEG[:3],
        b"\xff\xd8\xff\xd9",
        JPEG[: JPEG.index(b"\xff\xda")],
        PNG[: len(PNG) // 2],
        PNG[:40],
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_not_a_whole_image_is_refused_by_name(content):
    with pytest.raises(DataError, match="^some/file.jpg: ") as caught:
        check("some/file.jpg", content)
    assert "\n" not in str(caught.value)


def noise(side):
    """A picture whose JPEG is long for its size."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("side", [48, 160])  # short and long: looked at in two ways
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_jpeg_whose_marks_are_not_as_usual_is_left_to_its_decoder(side, options):
    content = encoded(noise(side), "JPEG", quality=95, **options)
    data = content.rindex(b"\xff\xda") + 14
    assert (len(content) - data > 1 << 14) == (side == 160 and "progressive" not in options)
    assert jpeg.frame(content) == (side, side)
    middle = data + (len(content) - data) // 2
    for name, changed in {
        "an odd marker": content[:middle] + b"\xff\x5a" + content[middle:],
        "an end in the middle": content[:middle] + b"\xff\xd9" + content[middle:],
        "no end": content[:-2],
        "more after the end": content + b"\0",
        "another file after the end": content + content,
        "half an end": content[:-1],
    }.items():
        assert jpeg.frame(changed) is None, name
    closed = content[:middle].rstrip(b"\xff") + b"\xff\xd9"
    assert jpeg.frame(closed) == (side, side)  # what only decoding can notice


def test_a_png_whose_marks_are_wrong_is_left_to_pillow():
    """It forgives some wrong lengths, which DALI does not: both loaders then read what Pillow made of it."""
    at = PNG.index(b"IDAT") - 4
    forgiven = 0
    for bit in range(32):
        changed = bytearray(PNG)
        changed[at + bit // 8] ^= 1 << bit % 8
        try:
            expected = decode("a", bytes(changed))
        except DataError:
            with pytest.raises(DataError):
                check("a", bytes(changed))
        else:
            forgiven += bit // 8 > 1 and changed[at : at + 4] < PNG[at : at + 4]
            assert check("a", bytes(changed)) == (encode_ppm(expected), 40, 56)
    assert forgiven
    wrong_sum = bytearray(PNG)
    wrong_sum[-14] ^= 1  # of the pixels
    assert check("a", bytes(wrong_sum))[0] == encode_ppm(decode("a", bytes(wrong_sum)))


ODD_TAGS = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0"  # longer than they are, and fewer
NOISY = """
import io, sys, warnings
from PIL import Image
from resnet.data.errors import DataError
from resnet.data.images.encoded import check, decode
image = Image.effect_noise((40, 36), 40).convert("RGB")
def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
tiff = bytearray(encoded(image, "TIFF"))
at = int.from_bytes(tiff[4:8], "little")
last = at + 2 + 12 * (int.from_bytes(tiff[at : at + 2], "little") - 1)
tiff[last + 4 : last + 8] = (1 << 20).to_bytes(4, "little")
palette = encoded(image.convert("P"), "PNG", transparency=bytes(range(256)))
files = {"exif.jpg": encoded(image, "JPEG", exif=%r), "tag.tif": bytes(tiff), "palette.png": palette}
for name, content in files.items():
    decode(name, content)
    check(name, content)
try:
    decode("cut.jpg", files["exif.jpg"][:-400])
except DataError as error:
    print(error)
Image.MAX_IMAGE_PIXELS = 1000
decode("large.jpg", files["exif.jpg"])
warnings.warn("of others", UserWarning)
"""


def test_what_pillow_says_of_tags_is_no_noise_and_nothing_else_is_silenced():
    """In a process of its own, since tests reset the filters of warnings."""
    done = subprocess.run([sys.executable, "-c", NOISY % ODD_TAGS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("cut.jpg: damaged or truncated image ("), done.stderr
    said = [line.partition("Warning: ") for line in done.stderr.splitlines() if "Warning: " in line]
    assert [text.partition(" (")[0] for _, _, text in said] == ["Image size", "of others"], done.stderr
