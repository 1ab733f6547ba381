"""Flips and crops against NumPy, image by image."""

import numpy as np
import pytest
import tensorflow as tf

from moe import config
from moe.data import augment

KEY = tf.constant([1, 2])


def make_images(size, height=12, width=9, depth=3):
    """Every pixel of an image has its own value, so that any mix-up shows."""
    rng = np.random.default_rng(0)
    return np.stack(
        [rng.permutation(height * width * depth).reshape(height, width, depth) for _ in range(size)]
    ).astype(np.int32)


def windows(image, reach=4):
    """All crops of an image whose edges are mirrored by `reach` pixels, by offset."""
    height, width, _ = image.shape
    padded = np.pad(image, [(reach, reach), (reach, reach), (0, 0)], mode="reflect")
    return {
        (row, column): padded[row : row + height, column : column + width]
        for row in range(2 * reach + 1)
        for column in range(2 * reach + 1)
    }


def test_flip_mirrors_whole_images_left_to_right():
    images = make_images(64)
    result = augment.flip(tf.constant(images), KEY).numpy()
    flipped = [(r == i[:, ::-1]).all() for r, i in zip(result, images, strict=True)]
    kept = [(r == i).all() for r, i in zip(result, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert any(flipped)
    assert any(kept)


def test_flip_mirrors_half_of_the_images():
    size = 4000
    images = np.tile(np.array([[[[0], [1]]]], np.uint8), [size, 1, 1, 1])
    result = augment.flip(tf.constant(images), KEY).numpy()
    # Deviation of the share: .5 / sqrt(4000) = .0079.
    assert abs(result[:, 0, 0, 0].mean() - 0.5) < 5 * 0.0079


def test_crop_is_one_of_the_windows_of_the_mirrored_image():
    images = make_images(40)
    result = augment.crop(tf.constant(images), KEY).numpy()
    offsets = []
    for image, cropped in zip(images, result, strict=True):
        (offset,) = (o for o, window in windows(image).items() if (window == cropped).all())
        offsets.append(offset)
    assert len(set(offsets)) > 20  # each image has its own


def test_crop_reaches_every_offset_and_none_beyond():
    # The middle pixel says where the window was.
    size, side = 3000, 16
    image = np.arange(side * side).reshape(1, side, side, 1)
    result = augment.crop(tf.constant(np.tile(image, [size, 1, 1, 1])), KEY).numpy()
    middle = result[:, side // 2, side // 2, 0]
    rows, columns = middle // side - side // 2, middle % side - side // 2
    for offset in (rows, columns):
        counts = np.bincount(offset + 4, minlength=9)
        assert len(counts) == 9
        # 333 each; deviation sqrt(3000 * 1/9 * 8/9) = 17
        assert (np.abs(counts - size / 9) < 5 * 17.3).all()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 5 / np.sqrt(size)


@pytest.mark.parametrize(
    ("height", "width", "reach"), [(5, 5, 4), (4, 4, 3), (2, 7, 1), (7, 2, 1), (1, 1, 0), (1, 5, 0)]
)
def test_a_tiny_image_moves_less_far(height, width, reach):
    images = np.tile(make_images(1, height, width), [1500, 1, 1, 1])
    result = augment.crop(tf.constant(images), KEY).numpy()
    # A mirrored image may look alike from several offsets; each look must come, and no other.
    expected = {window.tobytes() for window in windows(images[0], reach).values()}
    assert {image.tobytes() for image in result} == expected


def test_flip_crop_is_a_flip_then_a_crop_that_are_independent():
    size = 2000
    images = np.tile(make_images(1, 8, 12, 1), [size, 1, 1, 1])
    result = augment.flip_crop(tf.constant(images), KEY).numpy()
    straight = {w.tobytes(): o for o, w in windows(images[0]).items()}
    mirrored = {w.tobytes(): o for o, w in windows(images[0][:, ::-1]).items()}
    assert not set(straight) & set(mirrored)
    flipped = np.array([image.tobytes() in mirrored for image in result])
    offsets = np.array([(straight | mirrored)[image.tobytes()] for image in result])
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(size)
    for axis in (0, 1):
        assert abs(np.corrcoef(flipped, offsets[:, axis])[0, 1]) < 5 / np.sqrt(size)


@pytest.mark.parametrize("name", ["flip", "crop", "flip_crop"])
def test_the_same_key_does_the_same_and_another_key_does_not(name):
    function = getattr(augment, name)
    images = tf.constant(make_images(32))
    first = function(images, KEY)
    np.testing.assert_array_equal(first, function(images, KEY))
    assert tf.reduce_any(first != function(images, tf.constant([1, 3])))


@pytest.mark.parametrize("name", ["flip", "crop", "flip_crop"])
@pytest.mark.parametrize(("height", "width"), [(12, 9), (3, 2), (1, 1)])
def test_shape_and_dtype_stay_also_inside_a_graph(name, height, width):
    function = tf.function(getattr(augment, name))
    images = tf.constant(make_images(3, height, width).astype(np.uint8))
    result = function(images, KEY)
    assert result.dtype == tf.uint8
    assert result.shape == images.shape


def test_no_augmentation_changes_nothing():
    rows = tf.constant([[1.0, 2.0]])
    np.testing.assert_array_equal(augment.AUGMENTATIONS["none"](rows, KEY), rows)


def test_the_flag_and_the_functions_have_the_same_names():
    assert set(augment.AUGMENTATIONS) == set(config.AUGMENTATIONS)
