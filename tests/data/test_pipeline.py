"""Every batch is a function of seed and step; every example counts exactly once."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from moe.data import augment
from moe.data.pipeline import Split, evaluation_batches, steps_per_epoch, training_batches
from moe.data.source import Examples

KEY = (12, 34)
SIZE, BATCH = 23, 5  # 4 steps an epoch, 3 examples left over


def make_split(size=SIZE):
    """Features, labels and groups that tell which row they are of."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(size, 6, 6, 1)).astype(np.uint8)
    images[:, 0, 0, 0] = images[:, 0, -1, 0] = np.arange(size)
    label = (np.arange(size) * 3 % 10).astype(np.int32)
    return Split(Examples(images, label), (np.arange(size) % 2).astype(np.int32))


def take(count, first_step=0, key=KEY, split=None, batch_size=BATCH, how="flip"):
    dataset = training_batches(
        split or make_split(), batch_size, key, first_step, augment.make_augmentation(how)
    )
    return [[c.numpy() for c in batch] for batch in itertools.islice(dataset, count)]


def indices(batches):
    return [batch[4].tolist() for batch in batches]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for column, expected in zip(batch, other, strict=True):
            np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("first_step", [1, 3, 4, 6, 9])
def test_a_pipeline_that_starts_later_goes_on_as_if_uninterrupted(first_step):
    assert_same(take(12)[first_step:], take(12 - first_step, first_step))


def test_rows_belong_together():
    split = make_split()
    for features, label, group, weight, index, loss_weight in take(6):
        np.testing.assert_array_equal(features[:, 0, 0, 0], index)
        np.testing.assert_array_equal(label, split.examples.label[index])
        np.testing.assert_array_equal(group, split.group[index])
        np.testing.assert_array_equal(weight, np.ones(BATCH))
        np.testing.assert_array_equal(loss_weight, np.ones(BATCH))
        for image, row in zip(features, index, strict=True):
            original = split.examples.features[row]
            assert (image == original).all() or (image == original[:, ::-1]).all()


def test_alternating_flips_show_the_other_side_every_epoch_and_half_of_them_first():
    split, steps = make_split(), steps_per_epoch(SIZE, BATCH)

    def starts(key):
        """By row, on which sides an image can have begun."""
        found: dict[int, set[bool]] = {}
        for number, batch in enumerate(take(8 * steps, key=key, how="alternate")):
            for image, row in zip(batch[0], batch[4], strict=True):
                original = split.examples.features[row]
                mirrored = bool((image == original[:, ::-1]).all())
                assert mirrored or (image == original).all()
                # Counted in epochs, also over those that left the image out.
                found.setdefault(row, set()).add(mirrored ^ bool(number // steps % 2))
        return [found[row] for row in range(SIZE)]

    one, other = starts(KEY), starts((1, 2))
    assert all(len(start) == 1 for start in one)
    assert sum(start == {True} for start in one) == SIZE // 2
    assert one != other


def test_shapes_and_types_are_static():
    spec = training_batches(make_split(), BATCH, KEY, 0, augment.flip).element_spec
    assert [(s.dtype, s.shape.as_list()) for s in spec] == [
        (tf.uint8, [BATCH, 6, 6, 1]),
        (tf.int32, [BATCH]),
        (tf.int32, [BATCH]),
        (tf.float32, [BATCH]),
        (tf.int32, [BATCH]),
        (tf.float32, [BATCH]),
    ]


def test_weighted_examples_keep_their_weights_in_training_and_count_alike_in_evaluation():
    split = make_split()
    own = np.linspace(0, 2, SIZE, dtype=np.float32)
    weighted = Split(split.examples._replace(weight=own), split.group)
    for *_, weight, index, loss_weight in take(6, split=weighted):
        np.testing.assert_array_equal(weight, np.ones(BATCH))
        np.testing.assert_array_equal(loss_weight, own[index])
    odd = take(2, split=weighted.of_group(1))
    for *_, index, loss_weight in odd:
        np.testing.assert_array_equal(loss_weight, own[1::2][index])
    for batch in evaluation_batches(weighted, 10):
        np.testing.assert_array_equal(batch.loss_weight, batch.weight)


def test_no_example_comes_twice_in_an_epoch():
    batches = indices(take(4 * 5))
    for epoch in range(5):
        rows = flat(batches[4 * epoch : 4 * epoch + 4])
        assert len(set(rows)) == 4 * BATCH
        assert set(rows) <= set(range(SIZE))


@pytest.mark.parametrize("size", [5, 20, 64, 65])
def test_an_epoch_without_rest_is_a_permutation(size):
    rows = flat(indices(take(size // 5, split=make_split(size))))
    assert len(rows) == size // 5 * 5
    if size % 5 == 0:
        assert sorted(rows) == list(range(size))


def test_every_epoch_has_its_own_order_and_leaves_out_others():
    batches = indices(take(4 * 8))
    epochs = [tuple(flat(batches[4 * e : 4 * e + 4])) for e in range(8)]
    assert len(set(epochs)) == 8
    assert len({frozenset(epoch) for epoch in epochs}) > 1


def test_over_many_epochs_every_position_sees_every_example():
    # 200 epochs of 6 examples: each of them comes first about 33 times, deviation 5.3.
    first = [rows[0] for rows in indices(take(400, split=make_split(6), batch_size=3, how="none"))]
    counts = np.bincount(first[::2], minlength=6)
    assert (np.abs(counts - 200 / 6) < 5 * 5.3).all()


def test_it_depends_on_the_seed_and_on_nothing_else():
    first = take(5)
    tf.random.set_seed(99)
    np.random.seed(99)
    assert_same(first, take(5))
    other = take(5, key=(12, 35))
    assert indices(first) != indices(other)


@pytest.mark.parametrize("threads", [1, 3])
def test_it_does_not_depend_on_the_number_of_threads(threads):
    augmentation = augment.make_augmentation("flip_crop")
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = threads
    dataset = training_batches(make_split(), BATCH, KEY, 0, augmentation).with_options(options)
    batches = [[c.numpy() for c in batch] for batch in itertools.islice(dataset, 12)]
    assert_same(batches, take(12, how="flip_crop"))


def test_the_same_example_is_augmented_anew_every_time():
    split = make_split(1)  # always in the same place of its batch
    mirrored = split.examples.features[0][:, ::-1]
    flipped = [(batch[0][0] == mirrored).all() for batch in take(40, split=split, batch_size=1)]
    # 40 coins: between 6 and 34 heads but for one case in 100,000.
    assert 6 <= sum(flipped) <= 34


def test_an_epoch_has_whole_batches_only():
    assert steps_per_epoch(23, 5) == 4
    assert steps_per_epoch(5, 5) == 1


def test_the_size_of_a_group():
    split = make_split()
    for group in (None, 0, 1, 99):
        assert split.size_of_group(group) == len(split.of_group(group))


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 100])
def test_evaluation_sees_every_example_once_in_order(batch_size):
    split = make_split()
    rows, features, labels, groups = [], [], [], []
    for batch in evaluation_batches(split, batch_size):
        size = min(batch_size, SIZE)
        assert batch.features.shape == [size, 6, 6, 1]
        assert {c.shape[0] for c in batch} == {size}
        real = batch.weight.numpy() == 1
        # Padding has weight 0 and no row of its own.
        np.testing.assert_array_equal(batch.weight.numpy()[~real], 0)
        np.testing.assert_array_equal(batch.index.numpy()[~real], -1)
        rows += batch.index.numpy()[real].tolist()
        features += list(batch.features.numpy()[real])
        labels += batch.label.numpy()[real].tolist()
        groups += batch.group.numpy()[real].tolist()
    assert rows == list(range(SIZE))
    np.testing.assert_array_equal(features, split.examples.features)
    np.testing.assert_array_equal(labels, split.examples.label)
    np.testing.assert_array_equal(groups, split.group)


def test_evaluation_and_training_batches_have_the_same_types():
    evaluation = next(iter(evaluation_batches(make_split(), BATCH)))
    spec = training_batches(make_split(), BATCH, KEY, 0, augment.flip).element_spec
    assert [(c.dtype, c.shape) for c in evaluation] == [(s.dtype, s.shape) for s in spec]


def test_a_split_of_one_group():
    split = make_split()
    odd = split.of_group(1)
    assert len(odd) == 11
    np.testing.assert_array_equal(odd.examples.features[:, 0, 0, 0], np.arange(1, SIZE, 2))
    np.testing.assert_array_equal(odd.group, 1)
    assert split.of_group(None) is split
    np.testing.assert_array_equal(split.take(np.array([4, 2])).examples.label, [2, 6])
