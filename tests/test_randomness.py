"""Keys depend on seed, purpose and place, and on nothing else."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from moe import randomness

KEY = tf.constant([11, 22])


def take(count, key=KEY):
    with randomness.key_scope(key):
        return [tuple(randomness.next_key().numpy()) for _ in range(count)]


def test_a_seed_pair_is_the_same_in_every_process():
    # The first eight bytes of SHA-256("0/initialise/gate"), two little-endian words, sign cleared.
    assert randomness.seed_pair(0, "initialise", "gate") == (813200438, 2107902645)


def test_seed_pairs_differ_by_seed_and_by_every_word():
    arguments = [
        (0,), (1,), (0, "order"), (1, "order"), (0, "order", 1), (0, "order", 2), (0, 1, "order"),
    ]  # fmt: skip
    pairs = {randomness.seed_pair(*a) for a in arguments}
    assert len(pairs) == len(arguments)
    assert all(0 <= number < 2**31 for pair in pairs for number in pair)


def test_folding_gives_another_key_for_every_number():
    keys = {tuple(randomness.fold(KEY, n).numpy()) for n in range(-3, 200)}
    assert len(keys) == 203
    assert randomness.fold(KEY, tf.constant(5, tf.int64)).dtype == tf.int32
    np.testing.assert_array_equal(
        randomness.fold(KEY, 5), randomness.fold([11, 22], tf.constant(5))
    )
    assert (randomness.fold(KEY, 5).numpy() != randomness.fold([11, 23], 5).numpy()).any()


def test_a_scope_hands_out_the_same_keys_again_in_the_order_of_the_calls():
    keys = take(4)
    assert keys == take(4)
    assert len(set(keys)) == 4
    assert not set(keys) & set(take(4, tf.constant([11, 23])))


def test_the_innermost_scope_counts_and_the_outer_one_goes_on():
    with randomness.key_scope(KEY):
        first = tuple(randomness.next_key().numpy())
        assert take(2, tf.constant([5, 6])) == take(2, tf.constant([5, 6]))
        second = tuple(randomness.next_key().numpy())
    assert [first, second] == take(2)


def test_a_scope_ends_with_an_exception():
    with pytest.raises(RuntimeError), randomness.key_scope(KEY):
        raise RuntimeError
    outside = {tuple(randomness.next_key().numpy()) for _ in range(3)}
    assert len(outside) == 3
    assert not outside & set(take(3))


def test_scopes_of_other_threads_do_not_mix():
    seen = {1: [], 2: []}
    together = threading.Barrier(2, timeout=60)

    def work(name):
        with randomness.key_scope(tf.constant([name, name])):
            for _ in range(3):
                together.wait()  # both scopes are open
                seen[name].append(tuple(randomness.next_key().numpy()))
            together.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: take(3, tf.constant([name, name])) for name in seen}


def test_keys_in_a_traced_function_follow_the_key_that_is_passed_in():
    @tf.function
    def two(key):
        with randomness.key_scope(key):
            return randomness.next_key(), randomness.next_key()

    for key in (KEY, tf.constant([7, 8])):
        assert [tuple(k.numpy()) for k in two(key)] == take(2, key)
    assert two.experimental_get_tracing_count() == 1


def test_outside_of_a_scope_the_global_seed_decides():
    def draw():
        tf.random.set_seed(3)
        return [tuple(randomness.next_key().numpy()) for _ in range(2)]

    first = draw()
    assert first == draw()
    assert first[0] != first[1]


@pytest.mark.parametrize("draw", [randomness.example_uniform, randomness.example_normal])
def test_an_example_draws_the_same_whatever_replica_it_is_on(draw):
    with randomness.key_scope(KEY):
        randomness.next_key()
        alone = draw(6, 3).numpy()
    shared = []
    for replica in range(2):
        with randomness.key_scope(KEY, replica, 2):
            randomness.next_key()
            shared.append(draw(tf.constant(3), 3).numpy())
    np.testing.assert_array_equal(np.concatenate(shared), alone)
    assert len(np.unique(alone)) == alone.size


def test_draws_for_examples_are_distributed_as_they_say():
    size = 4000
    with randomness.key_scope(KEY):
        uniform = randomness.example_uniform(size, 1).numpy()
        normal = randomness.example_normal(size, 1).numpy()
    assert ((uniform >= 0) & (uniform < 1)).all()
    assert abs(uniform.mean() - 0.5) < 5 / np.sqrt(12 * size)
    assert abs(normal.mean()) < 5 / np.sqrt(size)
    assert abs(normal.var() - 1) < 5 * np.sqrt(2 / size)


def test_replicas_have_keys_of_their_own():
    keys = []
    for replica in range(2):
        with randomness.key_scope(KEY, replica, 2):
            keys.append(tuple(randomness.next_key().numpy()))
    assert keys[0] != keys[1]
    assert keys[0] == take(1)[0]
