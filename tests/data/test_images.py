"""Images of every kind become arrays of one kind, or are refused with the reason."""

import io

import numpy as np
import pytest
from PIL import Image

from moe.data.images import UnreadableError, read_image, resized, shape_of, stack
from moe.errors import UserError

RED = np.full((4, 6, 3), (200, 10, 30), np.uint8)


def write(path, image, **options):
    image.save(path, **options)
    return path


def test_shrinking_is_the_mean_of_what_a_pixel_covers():
    image = np.array([[[0], [100]], [[100], [200]]], np.uint8)
    np.testing.assert_array_equal(resized(image, 1, 1), [[[100]]])


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_the_whole_image_is_stretched(depth):
    image = np.zeros((2, 6, depth), np.uint8)
    image[:, 3:] = 240
    small = resized(image, 4, 5)
    assert small.shape == (4, 5, depth)
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small[:, 0], 0)
    np.testing.assert_array_equal(small[:, 4], 240)


def test_images_of_one_size_are_put_together_as_they_are():
    images = np.arange(24, dtype=np.uint8).reshape(3, 2, 4, 1)
    np.testing.assert_array_equal(stack(iter(images), 5, None, "x"), images)


def test_images_of_several_sizes_need_to_be_told_which_one():
    images = [np.zeros((2, 3, 3), np.uint8), np.ones((5, 4, 3), np.uint8)]
    with pytest.raises(UserError, match=r"zoo: .*2 x 3 x 3 and 5 x 4 x 3.*--image_size=N"):
        stack(images, 2, None, "zoo")
    assert stack(images, 2, 7, "zoo").shape == (2, 7, 7, 3)


def test_images_of_several_depths_are_refused_in_any_size():
    images = [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 1), np.uint8)]
    with pytest.raises(UserError, match=r"several shapes \(4 x 4 x 3 and 4 x 4 x 1\)\.$"):
        stack(images, 2, 4, "zoo")


@pytest.mark.parametrize(
    ("mode", "depth"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)]
)
def test_every_mode_is_grey_or_colour(tmp_path, mode, depth):
    path = write(tmp_path / "a.png", Image.fromarray(RED).convert(mode))
    assert shape_of(path) == (4, 6, depth)
    for asked in (1, 3):
        image = read_image(path, asked)
        assert image.shape == (4, 6, asked)
        assert image.dtype == np.uint8
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(read_image(path, 3), RED)


def test_a_photo_taken_sideways_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's top was at the right
    image = np.zeros((4, 6, 3), np.uint8)
    image[0] = 255
    path = write(tmp_path / "a.png", Image.fromarray(image), exif=exif)
    upright = read_image(path, 3)
    assert upright.shape == (6, 4, 3)
    np.testing.assert_array_equal(upright[:, -1], 255)
    np.testing.assert_array_equal(upright[:, 0], 0)


def _png() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "cannot identify"),
        (b"", "cannot identify"),
        (_png()[:-2000], "truncated|broken"),
    ],
    ids=["text", "empty", "cut"],
)
def test_what_is_no_image_is_refused(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=message):
        read_image(path, 3)


def test_16_bits_a_pixel_are_not_cut_down_in_silence(tmp_path):
    path = write(tmp_path / "a.png", Image.fromarray(np.full((3, 3), 40_000, np.uint16)))
    for look in (shape_of, lambda p: read_image(p, 1)):
        with pytest.raises(UnreadableError, match="more than 8 bits"):
            look(path)
