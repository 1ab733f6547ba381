"""Flips and crops against NumPy, image by image."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from moe.config import choices
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


@pytest.mark.parametrize("reach", [4, 2])
def test_crop_reaches_every_offset_and_none_beyond(reach):
    # The middle pixel says where the window was.
    size, side, many = 3000, 16, 2 * reach + 1
    image = np.arange(side * side).reshape(1, side, side, 1)
    result = augment.crop(tf.constant(np.tile(image, [size, 1, 1, 1])), KEY, reach).numpy()
    middle = result[:, side // 2, side // 2, 0]
    rows, columns = middle // side - side // 2, middle % side - side // 2
    for offset in (rows, columns):
        counts = np.bincount(offset + reach, minlength=many)
        assert len(counts) == many
        deviation = np.sqrt(size * (1 / many) * (1 - 1 / many))
        assert (np.abs(counts - size / many) < 5 * deviation).all()
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
    turn = tf.zeros([size], tf.int32)
    result = augment.make_augmentation("flip_crop")(tf.constant(images), KEY, turn).numpy()
    straight = {w.tobytes(): o for o, w in windows(images[0]).items()}
    mirrored = {w.tobytes(): o for o, w in windows(images[0][:, ::-1]).items()}
    assert not set(straight) & set(mirrored)
    flipped = np.array([image.tobytes() in mirrored for image in result])
    offsets = np.array([(straight | mirrored)[image.tobytes()] for image in result])
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(size)
    for axis in (0, 1):
        assert abs(np.corrcoef(flipped, offsets[:, axis])[0, 1]) < 5 / np.sqrt(size)


def test_an_image_is_mirrored_every_other_turn():
    images = tf.constant(make_images(4))
    turn = tf.constant([0, 1, 2, 3])
    result = augment.alternate(images, KEY, turn)
    np.testing.assert_array_equal(result[::2], images[::2])
    np.testing.assert_array_equal(result[1::2], images[1::2, :, ::-1])
    # With crops: the windows of the side whose turn it is, as far as they reach.
    reached = augment.make_augmentation("alternate_crop", 1)(images, KEY, turn).numpy()
    for image, cropped in zip(result.numpy(), reached, strict=True):
        assert any((window == cropped).all() for window in windows(image, 1).values())


def run(name, images, key):
    """The augmentation of that name."""
    turn = tf.range(tf.shape(images)[0])  # to be mirrored is every second one's
    return augment.make_augmentation(name)(images, key, turn)


@pytest.mark.parametrize("name", ["flip", "crop", "flip_crop", "alternate_crop"])
def test_the_same_key_does_the_same_and_another_key_does_not(name):
    images = tf.constant(make_images(32))
    first = run(name, images, KEY)
    np.testing.assert_array_equal(first, run(name, images, KEY))
    assert tf.reduce_any(first != run(name, images, tf.constant([1, 3])))


@pytest.mark.parametrize("name", ["flip", "crop", "flip_crop", "alternate_crop"])
@pytest.mark.parametrize(("height", "width"), [(12, 9), (3, 2), (1, 1)])
def test_shape_and_dtype_stay_also_inside_a_graph(name, height, width):
    function = tf.function(functools.partial(run, name))
    images = tf.constant(make_images(3, height, width).astype(np.uint8))
    result = function(images, KEY)
    assert result.dtype == tf.uint8
    assert result.shape == images.shape


def test_no_augmentation_changes_nothing():
    rows = tf.constant([[1.0, 2.0]])
    np.testing.assert_array_equal(augment.make_augmentation("none")(rows, KEY, None), rows)


@pytest.mark.parametrize("name", choices.AUGMENTATIONS)
def test_every_name_of_the_flag_is_an_augmentation_of_its_own(name):
    images = tf.constant(make_images(32))
    results = {n: run(n, images, KEY).numpy().tobytes() for n in choices.AUGMENTATIONS}
    same = [n for n, result in results.items() if result == results[name]]
    assert same == [name]
