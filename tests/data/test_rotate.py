"""Turned images: every pixel where it belongs, clusters even, sides apart, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from toy import draw, toy_config, toy_source

import moe.workspace
from moe.data import registry
from moe.data.rotate import Turning, parse, rotate
from moe.data.source import Examples
from moe.errors import UserError


def arranged(turning, examples=None, seed=0):
    source = rotate(toy_source(), turning)
    return source.arrange(examples or draw(240, seed=0), np.random.default_rng(seed))


def test_an_image_is_turned_by_its_clusters_angle():
    image = np.array([[1, 2], [3, 4]], np.uint8).reshape(1, 2, 2, 1)
    examples = Examples(image, np.zeros(1, np.int32))
    found = arranged(Turning("x", copies="all"), examples)
    assert found.group.tolist() == [0, 1, 2, 3]
    assert found.features[..., 0].tolist() == [
        [[1, 2], [3, 4]],
        [[2, 4], [1, 3]],  # against the clock
        [[4, 3], [2, 1]],
        [[3, 1], [4, 2]],
    ]


def test_any_angle_turns_the_same_way_and_empties_the_corners():
    image = np.zeros((1, 21, 21, 1), np.uint8)
    image[0, 8:13, 15:18] = 200  # on the right
    image[0, 0, 0] = 255
    angles = (45, 89, 90)
    found = arranged(Turning("x", angles, "all"), Examples(image, np.zeros(1, np.int32)))
    slanted, nearly, upright = found.features[..., 0].astype(float)
    middle = np.array(
        [
            [(row * m).sum() / m.sum() for row in np.indices(m.shape)]
            for m in (slanted, nearly, upright)
        ]
    )
    reach = 16 - 10
    np.testing.assert_allclose(middle[0] - 10, [-reach * 0.5**0.5, reach * 0.5**0.5], atol=0.3)
    np.testing.assert_allclose(middle[1] - 10, [-reach, 0], atol=0.5)
    assert slanted[0, 0] == slanted[0, -1] == slanted[-1, 0] == slanted[-1, -1] == 0


@pytest.mark.parametrize("angles", [(0, 180), (90, 0, 270)])
def test_every_image_is_in_one_cluster_and_turned_so(angles):
    plain = draw(240, seed=0)
    found = arranged(Turning("toy", angles), plain)
    np.testing.assert_array_equal(found.label, plain.label)
    assert found.group.dtype == np.int32
    for image, cluster, before in zip(found.features, found.group, plain.features, strict=True):
        np.testing.assert_array_equal(image, np.rot90(before, angles[cluster] // 90))


def test_clusters_are_even_within_each_class_and_in_no_order():
    found = arranged(Turning("toy"))
    pairs = np.bincount(4 * found.label + found.group, minlength=20)
    assert pairs.max() - pairs.min() <= 1
    assert np.count_nonzero(np.diff(found.group)) > 120


def test_copies_have_every_image_at_every_angle():
    plain = draw(240, seed=0)
    found = arranged(Turning("toy", (0, 180), "all"), plain)
    assert len(found.label) == 480
    for cluster, angle in enumerate((0, 180)):
        mine = found.group == cluster
        np.testing.assert_array_equal(
            found.features[mine], np.rot90(plain.features, angle // 90, axes=(1, 2))
        )


def test_the_source_itself_is_left_alone():
    plain = draw(240, seed=0)
    before = plain.features.copy()
    arranged(Turning("toy"), plain)
    np.testing.assert_array_equal(plain.features, before)


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.setitem(registry._GENERATED, "toy", toy_source)

    def open_it(name="rotate:toy?angles=0,180", **changes):
        return moe.workspace.open_workspace(
            toy_config("nowhere", dataset=name, augment=None, **changes)
        )

    return open_it


def test_the_same_data_seed_gives_the_same_images(opened):
    one, same, other = opened(), opened(seed=5), opened(data_seed=1)
    for split in ("train", "validation"):
        a, b = getattr(one, split), getattr(same, split)
        np.testing.assert_array_equal(a.examples.features, b.examples.features)
        np.testing.assert_array_equal(a.group, b.group)
    assert not np.array_equal(one.open_test().group, other.open_test().group)
    np.testing.assert_array_equal(one.open_test().group, same.open_test().group)


def test_groups_are_the_clusters(opened):
    workspace = opened()
    assert workspace.groups.names == ("turned_0", "turned_180")
    assert workspace.groups.named
    assert workspace.groups.group_of_class is None
    assert set(workspace.train.group.tolist()) == {0, 1}
    np.testing.assert_array_equal(workspace.train.group, workspace.train.examples.group)


def test_the_sides_share_no_image_also_with_copies(opened):
    workspace = opened("rotate:toy?angles=0,180&copies=all")
    assert (workspace.source.copies, opened("rotate:toy").source.copies) == (2, 1)
    assert (len(workspace.train), len(workspace.validation)) == (430, 50)

    def upright(split):
        turned = split.group == 1
        images = split.examples.features.copy()
        images[turned] = np.rot90(images[turned], 2, axes=(1, 2))
        return {image.tobytes() for image in images}

    train, validation = upright(workspace.train), upright(workspace.validation)
    assert (len(train), len(validation)) == (215, 25)
    assert not train & validation


def test_a_run_finds_its_set_again_by_the_name_that_it_notes_down(opened):
    workspace = opened("rotate:toy")
    name = workspace.config.data.dataset
    assert name == "rotate:toy?angles=0,90,180,270&copies=one"
    again = opened(name)
    assert again.config.data.dataset == name
    np.testing.assert_array_equal(again.train.examples.features, workspace.train.examples.features)


def test_images_are_not_mirrored_where_that_would_change_their_cluster(opened):
    assert opened().config.data.augment == "flip"
    assert opened("rotate:toy").config.data.augment == "none"
    config = toy_config("nowhere", dataset="rotate:toy", augment="flip")
    with pytest.raises(UserError, match=r"--augment=flip: mirrors images.* use --augment=none or"):
        moe.workspace.open_workspace(config)
    config = toy_config("nowhere", dataset="rotate:toy", augment="crop")
    assert moe.workspace.open_workspace(config).config.data.augment == "crop"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "must look like rotate:NAME"),
        ("rotate:toy", "must look like rotate:NAME"),
        ("toy?angles=0", "angles=0 is no option"),
        ("toy?angles=0,360", "different ones from 0 to 359"),
        (f"toy?angles=0,{'9' * 5_000}", "is no option"),
        ("toy?angles=0,0", "different ones from 0 to 359"),
        ("toy?copies=2", "copies=2 is no option"),
        ("toy?size=2", "size=2 is no option"),
    ],
)
def test_a_wrong_spelling_is_refused(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        parse(spec)
    assert str(caught.value).startswith(f"--dataset=rotate:{spec}: ")


def test_what_is_no_square_image_cannot_be_turned():
    source = registry.open_source("rotate:digits", None)
    with pytest.raises(UserError, match=r"turns square images, not features of shape \[64\]\.$"):
        source.arrange(source.train(), np.random.default_rng(0))
