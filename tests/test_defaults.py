"""What is filled in by data set and by mode, and which choices do not fit."""

import dataclasses

import pytest

from moe.config.run import Config
from moe.config.sections import DataConfig, LossConfig, ModelConfig, TrainConfig
from moe.data.source import Source
from moe.defaults import resolve
from moe.errors import UserError


def make_source(name="photos", **changes):
    def refuse():
        raise AssertionError("defaults must not need the data")

    return Source(
        **{"name": name, "classes": ("a", "b"), "train": refuse, "test": refuse} | changes
    )


IMAGES = make_source(partition={"one": ("a",), "two": ("b",)})
TABLE = make_source("iris")


def open_fields(config):
    return {
        field.name
        for section in (config.data, config.model, config.loss, config.train)
        for field in dataclasses.fields(section)
        if getattr(section, field.name) is None
    }


@pytest.mark.parametrize(
    ("source", "axes"),
    [
        (IMAGES, 3),
        (make_source(), 3),
        (make_source("shapes", partition=IMAGES.partition), 3),
        (make_source("clusters", example_groups=("left", "right")), 3),
        (TABLE, 1),
    ],
    ids=["images", "images without groups", "shapes", "clusters", "table"],
)
def test_nothing_that_matters_stays_open(source, axes):
    resolved = resolve(Config(), source, axes)
    # Of the folders, the limits, the size and the weights, none is an answer by itself.
    open_ones = {"data_dir", "groups_from", "train_examples", "image_size", "steps"}
    assert open_fields(resolved) == open_ones | {"class_weights", "budget"}
    assert resolve(resolved, source, axes) == resolved


def test_the_data_set_that_is_really_used_is_recorded():
    assert resolve(Config(), IMAGES, 3).data.dataset == "photos"


def test_images_get_convolutions_and_flips():
    resolved = resolve(Config(), IMAGES, 3)
    assert resolved.data.groups == "semantic"
    assert resolved.data.augment == "flip"
    assert resolved.model.baseline_backbone == "small"
    assert resolved.model.gate_backbone == "small"
    assert resolved.model.expert_backbone == "deep"
    assert resolved.train.batch_size == 128


def test_table_rows_get_dense_layers_and_unnamed_groups():
    resolved = resolve(Config(), TABLE, 1)
    assert resolved.data.groups == "none:5"
    assert resolved.data.augment == "none"
    assert resolved.model.gate_backbone == "mlp-32"
    assert resolved.model.expert_backbone == "mlp-64-32"
    assert resolved.train.batch_size == 32


def test_images_without_groups_get_unnamed_ones():
    assert resolve(Config(), make_source(), 3).data.groups == "none:4"
    grouped = make_source(example_groups=("left", "right"))
    assert resolve(Config(), grouped, 3).data.groups == "semantic"


def test_named_groups_supervise_the_gate_and_need_no_balance():
    loss = resolve(Config(), IMAGES, 3).loss
    assert (loss.gate_supervision, loss.balance_loss) == (1.0, 0.0)
    assert (loss.baseline_loss, loss.expert_loss) == (0.5, 0.5)


def test_unnamed_groups_are_balanced_instead():
    loss = resolve(Config(data=DataConfig(groups="none:3")), IMAGES, 3).loss
    assert (loss.gate_supervision, loss.balance_loss) == (0.0, 0.01)


def test_the_boost_follows_the_baseline():
    assert resolve(Config(), IMAGES, 3).model.boost == "per_class"
    without = Config(model=ModelConfig(baseline=False))
    assert resolve(without, IMAGES, 3).model.boost == "none"
    asked = Config(model=ModelConfig(boost="scalar"))
    assert resolve(asked, IMAGES, 3).model.boost == "scalar"


def test_what_the_user_says_is_never_replaced():
    asked = Config(
        data=DataConfig(groups="none:2", augment="none"),
        model=ModelConfig(gate_backbone="tiny", boost="none"),
        loss=LossConfig(balance_loss=0.0, baseline_loss=0.0, gate_supervision=0.0),
        train=TrainConfig(epochs=1, patience=0, batch_size=7),
    )
    resolved = resolve(asked, IMAGES, 3)
    assert (resolved.data.groups, resolved.data.augment) == ("none:2", "none")
    assert (resolved.model.gate_backbone, resolved.model.boost) == ("tiny", "none")
    # 0 is an answer, not an open question.
    assert (resolved.loss.balance_loss, resolved.loss.baseline_loss) == (0.0, 0.0)
    assert (resolved.train.epochs, resolved.train.patience) == (1, 0)
    assert resolved.train.batch_size == 7


@pytest.mark.parametrize("mode", ["gate", "experts", "separate", "staged"])
def test_training_on_groups_needs_named_ones(mode):
    unnamed = Config(mode=mode, data=DataConfig(groups="none:2"))
    with pytest.raises(UserError, match=f"--mode={mode} trains on named groups.*none:2"):
        resolve(unnamed, IMAGES, 3)
    assert resolve(Config(mode=mode), IMAGES, 3).mode == mode


@pytest.mark.parametrize("mode", ["joint", "baseline"])
def test_joint_and_baseline_need_no_groups(mode):
    assert resolve(Config(mode=mode), TABLE, 1).data.groups == "none:5"


@pytest.mark.parametrize(
    ("config", "source", "axes", "message"),
    [
        (Config(data=DataConfig(augment="flip")), TABLE, 1, r"--augment=flip is for images; iris"),
        (Config(model=ModelConfig(tta="flip")), TABLE, 1, r"--tta=flip is for images; iris"),
        (
            Config(model=ModelConfig(expert_head="group")),
            TABLE,
            1,
            r"--expert_head=group needs named groups, not --groups=none:5",
        ),
        (
            Config(loss=LossConfig(gate_supervision=1.0)),
            TABLE,
            1,
            r"--gate_supervision needs named groups, not --groups=none:5",
        ),
    ],
)
def test_choices_that_do_not_fit_the_data_are_refused(config, source, axes, message):
    with pytest.raises(UserError, match=message):
        resolve(config, source, axes)
