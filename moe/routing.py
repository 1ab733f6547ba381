"""Routing: who answers, how rows get to the experts and back, how the answers are pooled.

Pure functions on tensors; axes as in `moe.types`. Everything here is float32. A slot whose log
weight is `IMPOSSIBLE` asks nobody, and what stands there for an answer is of no account.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from moe.types import IMPOSSIBLE, Gating, Routing

# --- what is chosen by ------------------------------------------------------------------------


def gate_log_probabilities(gate_logits: tf.Tensor) -> tf.Tensor:
    """`g(e|x)` in logarithms: `<float>[S, E]` -> `<float32>[S, E]`."""
    return tf.nn.log_softmax(tf.cast(gate_logits, tf.float32))


def gating(
    gate_log_probs: tf.Tensor,
    balance_bias: tf.Tensor | None = None,
    deviation: tf.Tensor | None = None,
) -> Gating:
    """The gate's distribution `<float32>[S, E]`, with the balance bias `<float32>[E]` if any."""
    scores = gate_log_probs
    if balance_bias is not None:
        scores = balanced_scores(gate_log_probs, balance_bias)
    return Gating(gate_log_probs, scores, deviation)


def balanced_scores(gate_log_probs: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`g(e|x) + b_e` of loss-free balancing (Wang et al. 2024, 2408.15664): `[S, E]`, `[E]`.

    The paper's scores are sigmoids; what counts is that they lie in [0, 1], as a softmax does: a
    bias of 1 then outbids every gate, and a step of the bias means the same to all of them.
    """
    return tf.exp(gate_log_probs) + bias


def bias_step(load: tf.Tensor, rate: float) -> tf.Tensor:
    """What a training step adds to the bias: `rate * sign(mean load - load_e)`.

    Args:
      load: `<float32>[E]`, assignments over the global batch, before anything is dropped.
      rate: the `u` of 2408.15664.
    """
    return rate * tf.sign(tf.reduce_mean(load) - load)


def logits_and_deviation(
    outputs: tf.Tensor, num_experts: int, temperature: float = 1.0, noisy: bool = False
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """What a gate's outputs say, divided by the temperature.

    Args:
      outputs: `<float32>[S, E]`, or `[S, 2E]`.
      num_experts: E.
      temperature: of the gate.
      noisy: whether the last E outputs are sizes of the noise, see `noise_deviation`.

    Returns:
      Logits and the noise's deviation, `<float32>[S, E]` each; None without noise.
    """
    logits = outputs[:, :num_experts] / temperature
    if not noisy:
        return logits, None
    return logits, noise_deviation(outputs[:, num_experts:]) / temperature


def noise_deviation(raw: tf.Tensor) -> tf.Tensor:
    """Of the noise on the gate's logits: `softplus(raw)` (Shazeer et al. 2017, 1701.06538).

    Plus .01, as in the authors' own code: `chance_of_top_k` divides by it.
    """
    return tf.nn.softplus(tf.cast(raw, tf.float32)) + 0.01


# --- choosing ---------------------------------------------------------------------------------


def route_soft(gate_log_probs: tf.Tensor) -> Routing:
    """Every expert answers, weighted by the gate (Jacobs et al. 1991): K = E."""
    experts = tf.range(tf.shape(gate_log_probs)[1], dtype=tf.int32)
    return Routing(
        expert_index=tf.broadcast_to(experts, tf.shape(gate_log_probs)),
        log_weights=gate_log_probs,
    )


def route_to(expert: tf.Tensor) -> Routing:
    """The one expert named for each example answers alone: `<int>[S]` -> K = 1."""
    chosen = tf.cast(expert, tf.int32)[:, tf.newaxis]
    return Routing(expert_index=chosen, log_weights=tf.zeros(tf.shape(chosen)))


def route_hard(gate_log_probs: tf.Tensor) -> Routing:
    """The gate's favourite answers alone; the first of equals."""
    return route_to(tf.argmax(gate_log_probs, axis=1, output_type=tf.int32))


def route_sampled(gate_log_probs: tf.Tensor, uniform: tf.Tensor) -> Routing:
    """One expert drawn from the gate's distribution answers alone (training of hard routing).

    The draw is `argmax(log g + G)` with Gumbel noise `G` (Gumbel 1954; Maddison et al. 2014).

    Args:
      gate_log_probs: `<float32>[S, E]`.
      uniform: `<float32>[S, E]`, independent draws in [0, 1).
    """
    tiny = tf.constant(1e-30)  # keeps a draw of 0 finite
    gumbel = -tf.math.log(-tf.math.log(tf.maximum(uniform, tiny)))
    return route_hard(gate_log_probs + gumbel)


def route_top_k(gate_log_probs: tf.Tensor, k: int, scores: tf.Tensor | None = None) -> Routing:
    """The `k` favourites answer, their weights renormalised to sum to 1.

    Args:
      gate_log_probs: `<float32>[S, E]`, the weights.
      k: how many, at most E.
      scores: `<float32>[S, E]`, who is a favourite; None: by weight.
    """
    experts = tf.math.top_k(gate_log_probs if scores is None else scores, k=k).indices
    chosen = tf.gather(gate_log_probs, experts, axis=1, batch_dims=1)
    return Routing(expert_index=experts, log_weights=tf.nn.log_softmax(chosen))


def route_noisy_top_k(
    gate_log_probs: tf.Tensor, deviation: tf.Tensor, normal: tf.Tensor, k: int
) -> Routing:
    """The `k` favourites of a gate with learned noise (Shazeer et al. 2017, 1701.06538).

    `H = log g + deviation * normal`; choice and weights are those of `H`.

    Args:
      gate_log_probs: `<float32>[S, E]`.
      deviation: `<float32>[S, E]`, see `noise_deviation`.
      normal: `<float32>[S, E]`, independent standard normal draws.
      k: how many, less than E.
    """
    noisy = gate_log_probs + deviation * normal
    chance = chance_of_top_k(gate_log_probs, noisy, deviation, k)
    return route_top_k(noisy, k)._replace(chance=chance)


def chance_of_top_k(
    gate_log_probs: tf.Tensor, noisy: tf.Tensor, deviation: tf.Tensor, k: int
) -> tf.Tensor:
    """How likely each expert is among the `k` best if its own noise alone is drawn again.

    `P_e = Phi((log g_e - threshold_e) / deviation_e)`, the threshold being the k-th highest of the
    others' noisy values (Shazeer et al. 2017, appendix A).

    Args:
      gate_log_probs, noisy, deviation: `<float32>[S, E]`, without noise, with it, and its size.
      k: how many, less than E.

    Returns:
      `<float32>[S, E]`.
    """
    best = tf.math.top_k(noisy, k=k + 1).values
    first_out = best[:, k:]
    threshold = tf.where(noisy > first_out, first_out, best[:, k - 1 : k])
    distance = (gate_log_probs - threshold) / deviation
    return 0.5 * tf.math.erfc(-distance / math.sqrt(2.0))


def route_expert_choice(gate_log_probs: tf.Tensor, factor: float) -> Routing:
    """Each expert takes its `expert_capacity` best examples (Zhou et al. 2022, 2202.09368): K = E.

    An example may be taken by any number of experts, whose weights are renormalised; one that
    nobody takes asks nobody. Who is taken depends on the other examples of the batch: for
    training only.

    Args:
      gate_log_probs: `<float32>[S, E]`.
      factor: experts an example, on average.
    """
    size, num_experts = gate_log_probs.shape
    if size is None:
        size = tf.shape(gate_log_probs)[0]
        room = tf.math.ceil(factor * tf.cast(size, tf.float64) / num_experts)
        capacity = tf.minimum(size, tf.maximum(1, tf.cast(room, tf.int32)))
    else:
        capacity = min(size, expert_capacity(size, 1, num_experts, factor))
    rows = tf.math.top_k(tf.transpose(gate_log_probs), k=capacity).indices  # [E, C]
    expert = tf.broadcast_to(tf.range(num_experts)[:, tf.newaxis], [num_experts, capacity])
    places = tf.stack([rows, expert], axis=-1)
    taken = tf.scatter_nd(places, tf.ones_like(rows), [size, num_experts]) > 0
    log_weights = masked_log_softmax(gate_log_probs, taken)
    return route_soft(gate_log_probs)._replace(log_weights=log_weights)


def route_uniform(gate_log_probs: tf.Tensor) -> Routing:
    """Every expert answers with the same weight, whatever the gate says."""
    return route_soft(tf.nn.log_softmax(tf.zeros_like(gate_log_probs)))


def route_above(gate_log_probs: tf.Tensor, threshold: float) -> Routing:
    """Soft routing that spares the experts below `threshold`: K = E, some slots ask nobody.

    The favourite always answers; the weights of those who do are renormalised.

    Args:
      gate_log_probs: `<float32>[S, E]`.
      threshold: least share of the gate that an expert is run for; 0: `route_soft`.
    """
    everyone = route_soft(gate_log_probs)
    favourite = everyone.expert_index == route_hard(gate_log_probs).expert_index
    keep = favourite | (tf.exp(gate_log_probs) >= threshold)
    return everyone._replace(log_weights=masked_log_softmax(gate_log_probs, keep))


def expert_capacity(size: int, num_chosen: int, num_experts: int, factor: float) -> int:
    """Rows that an expert takes at most: `ceil(factor * S * K / E)` (GShard 2006.16668), not 0."""
    return max(1, math.ceil(factor * size * num_chosen / num_experts))


def limit_capacity(routing: Routing, num_experts: int, factor: float) -> Routing:
    """Drops what an expert has no room for: those slots ask nobody any more.

    First choices come before second ones, and within them the order in the batch decides. The
    weights of the slots that an example keeps are renormalised; one that keeps none asks nobody.

    Args:
      routing: `[S, K]`, of a statically known size.
      num_experts: E.
      factor: of `expert_capacity`.
    """
    size, num_chosen = routing.expert_index.shape
    capacity = expert_capacity(size, num_chosen, num_experts, factor)
    keep = asks_somebody(routing) & (_position_in_expert(routing, num_experts) < capacity)
    return routing._replace(log_weights=masked_log_softmax(routing.log_weights, keep))


def asks_somebody(routing: Routing) -> tf.Tensor:
    """Which slots do: `<bool>[S, K]`."""
    return routing.log_weights > IMPOSSIBLE / 2


def _position_in_expert(routing: Routing, num_experts: int) -> tf.Tensor:
    """How many slots before it ask the same expert, `<int32>[S, K]`; slots of K = 0 come first."""
    expert = tf.transpose(routing.expert_index)  # [K, S]
    asking = tf.cast(tf.transpose(asks_somebody(routing)), tf.int32)
    mine = tf.one_hot(expert, num_experts, dtype=tf.int32) * asking[:, :, tf.newaxis]
    before = tf.cumsum(tf.reshape(mine, [-1, num_experts]), exclusive=True)
    before = tf.reshape(before, tf.shape(mine))
    return tf.transpose(tf.gather(before, expert, axis=2, batch_dims=2))


# --- dispatch and combine ---------------------------------------------------------------------


def run_routed(
    routing: Routing, inputs: Sequence[tf.Tensor], branches: Sequence[Callable], widths: Sequence
) -> tuple[tf.Tensor, ...]:
    """Runs each expert on exactly the rows that are routed to it (gather, run, scatter).

    The rows that all experts together process sum to the number of slots that ask somebody, `S * K`
    as a rule, whatever the number of experts. An expert without a row is not run at all.

    Args:
      routing: the assignment, `[S, K]`.
      inputs: tensors `[S, ...]` that the branches need.
      branches: E functions of `(*inputs of n rows)` -> tuple of `<float32>[n, width]`.
      widths: the width of each output.

    Returns:
      One `<float32>[S, K, width]` for each of `widths`.
    """
    num_experts, shape = len(branches), tf.shape(routing.expert_index)
    # Slots that ask nobody are put behind the last expert.
    asked = tf.where(asks_somebody(routing), routing.expert_index, num_experts)
    asked = tf.reshape(asked, [-1])  # [S * K]
    # A stable sort by expert puts each expert's rows together: one gather there, one back.
    order = tf.argsort(asked, stable=True)
    counts = tf.math.bincount(asked, minlength=num_experts, maxlength=num_experts)
    sent = tf.reduce_sum(counts)
    rows = order[:sent] // shape[1]
    dispatched = [tf.split(tf.gather(x, rows), counts, num=num_experts) for x in inputs]
    results = []
    for e, branch in enumerate(branches):
        mine = [parts[e] for parts in dispatched]

        def run(branch=branch, mine=mine):
            return tuple(branch(*mine))

        def skip():
            # Convolutions and batch statistics fail on an empty batch.
            return tuple(tf.zeros([0, width]) for width in widths)

        results.append(tf.cond(counts[e] > 0, run, skip))
    results.append([tf.zeros([tf.size(order) - sent, width]) for width in widths])
    back = tf.math.invert_permutation(order)
    return tuple(
        tf.reshape(tf.gather(tf.concat(column, axis=0), back), tf.concat([shape, [width]], axis=0))
        for width, column in zip(widths, zip(*results, strict=True), strict=True)
    )


def run_fixed(
    routing: Routing,
    inputs: Sequence[tf.Tensor],
    branches: Sequence[Callable],
    widths: Sequence,
    *,
    factor: float,
    experts: int | None = None,
) -> tuple[tf.Tensor, ...]:
    """The same with shapes that are known beforehand, as XLA needs them.

    Every expert processes exactly `expert_capacity` rows. Room that nobody asked for is filled
    with copies of the first example, whose answers go nowhere and learn nothing; they would count
    in batch statistics, see `moe.models.normalization.check_fixed_shapes`.

    Args:
      routing: as `limit_capacity` or `route_expert_choice` leaves it with the same `factor`.
      inputs, branches, widths: as in `run_routed`.
      factor: of `expert_capacity`.
      experts: K of `expert_capacity`; None: as many as an example has slots.
    """
    num_experts = len(branches)
    size, num_chosen = routing.expert_index.shape
    capacity = expert_capacity(size, experts or num_chosen, num_experts, factor)
    position = _position_in_expert(routing, num_experts)
    asking = asks_somebody(routing)
    # Slots that ask nobody go to a row of their own, which is then left out.
    expert = tf.where(asking, routing.expert_index, num_experts)
    place = tf.stack([expert, tf.where(asking, position, 0)], axis=-1)  # [S, K, 2]
    row = tf.broadcast_to(tf.range(size)[:, tf.newaxis], [size, num_chosen])
    rows = tf.scatter_nd(place, row, [num_experts + 1, capacity])
    results = [
        branch(*(tf.gather(x, rows[e]) for x in inputs)) for e, branch in enumerate(branches)
    ]
    place = tf.where(asking[..., tf.newaxis], place, 0)
    return tuple(
        tf.gather_nd(tf.stack(column), place) * tf.cast(asking, tf.float32)[..., tf.newaxis]
        for column in zip(*results, strict=True)
    )


def run_dense(
    routing: Routing, inputs: Sequence[tf.Tensor], branches: Sequence[Callable], widths: Sequence
) -> tuple[tf.Tensor, ...]:
    """The same as `run_routed`, every expert on every row: the reference, and soft routing."""
    del widths
    results = [branch(*inputs) for branch in branches]
    return tuple(
        tf.gather(tf.stack(column, axis=1), routing.expert_index, axis=1, batch_dims=1)
        for column in zip(*results, strict=True)
    )


def expert_counts(routing: Routing, num_experts: int) -> tf.Tensor:
    """How many slots ask each expert: `[S, K]` -> `<float32>[E]`."""
    return tf.reduce_sum(tf.cast(slots_by_expert(routing, num_experts), tf.float32), axis=[0, 1])


def named_counts(routing: Routing, num_experts: int) -> tf.Tensor:
    """The same, those included that `limit_capacity` dropped."""
    named = tf.one_hot(routing.expert_index, num_experts, dtype=tf.float32)
    return tf.reduce_sum(named, axis=[0, 1])


def slots_by_expert(routing: Routing, num_experts: int) -> tf.Tensor:
    """Which slot asks which expert: `[S, K]` -> `<bool>[S, K, E]`."""
    expert = routing.expert_index[:, :, tf.newaxis] == tf.range(num_experts)
    return expert & asks_somebody(routing)[:, :, tf.newaxis]


def load_shares(
    routing: Routing, favourite: tf.Tensor, num_experts: int, experts: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """What share of each example every expert was asked for, and was left with.

    Where K = E, everybody answers or experts choose: then what is asked for is the favourite.

    Args:
      routing: `[S, K]`, as capacity left it.
      favourite: `<int32>[S]`, the expert with the gate's highest score.
      num_experts: E.
      experts: how many answer an example on average: K, or where experts choose the C·E / S of
        `route_expert_choice`.

    Returns:
      Two `<float32>[S, E]`. Before capacity: rows sum to 1. After it: slots over `S * experts`;
      they sum to the share that was not dropped, or, where experts choose, to 1 over the batch.
    """
    taken = tf.reduce_sum(tf.cast(slots_by_expert(routing, num_experts), tf.float32), axis=1)
    num_chosen = routing.expert_index.shape[1]
    if num_chosen not in (None, num_experts):
        named = tf.one_hot(routing.expert_index, num_experts)
        return tf.reduce_sum(named, axis=1) / num_chosen, taken / num_chosen
    asked = tf.one_hot(favourite, num_experts)
    return asked, asked * taken if experts >= num_experts else taken / experts


def dropped_shares(routing: Routing, experts: float) -> tf.Tensor:
    """What share of each example's choices found no room: `[S, K]` -> `<float32>[S]`.

    Where experts choose (K = E, but fewer answer on average) nobody is due more than one: an
    example is dropped if nobody took it.

    Args:
      routing: as capacity left it.
      experts: as for `load_shares`.
    """
    num_chosen = routing.expert_index.shape[1]
    due = num_chosen if num_chosen == experts else 1
    asking = tf.reduce_sum(tf.cast(asks_somebody(routing), tf.float32), axis=1)
    return 1 - tf.minimum(asking / due, 1.0)


# --- pooling ----------------------------------------------------------------------------------


def masked_log_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Log-softmax over the allowed entries, `IMPOSSIBLE` elsewhere, gradient 0 there.

    Args:
      logits: `<float>[..., L]`.
      mask: `<bool>[L]` or `[..., L]`, True where allowed.
    """
    impossible = tf.fill(tf.shape(logits), IMPOSSIBLE)
    masked = tf.where(mask, tf.cast(logits, tf.float32), impossible)
    return tf.where(mask, tf.nn.log_softmax(masked), impossible)


def blend_log_probabilities(
    baseline_log_probs: tf.Tensor, expert_log_probs: tf.Tensor, boost_logits: tf.Tensor
) -> tf.Tensor:
    """`q(y) ~ (1 - a) b(y) + a f(y)` with `a = sigmoid(boost_logits)`, renormalised over y.

    Args:
      baseline_log_probs, expert_log_probs: `<float32>[S, L]`.
      boost_logits: `<float>[S, 1]` (one `a` an example) or `[S, L]` (one a class).

    Returns:
      `<float32>[S, L]`, normalised.
    """
    boost_logits = tf.cast(boost_logits, tf.float32)
    blended = _log_add_exp(
        tf.math.log_sigmoid(-boost_logits) + baseline_log_probs,
        tf.math.log_sigmoid(boost_logits) + expert_log_probs,
    )
    return tf.nn.log_softmax(blended)


def _log_add_exp(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)


def pool(
    routing: Routing, blend_log_probs: tf.Tensor, fallback_log_probs: tf.Tensor | None = None
) -> tf.Tensor:
    """`log p(y|x) = log sum_k w_k q_k(y|x)`.

    Args:
      routing: `[S, K]`.
      blend_log_probs: `<float32>[S, K, L]`.
      fallback_log_probs: `<float32>[S, L]`, for examples that ask nobody; None: there are none.

    Returns:
      `<float32>[S, L]`.
    """
    pooled = tf.reduce_logsumexp(routing.log_weights[:, :, tf.newaxis] + blend_log_probs, axis=1)
    if fallback_log_probs is None:
        return pooled
    return tf.where(answered(routing)[:, tf.newaxis], pooled, fallback_log_probs)


def answered(routing: Routing) -> tf.Tensor:
    """Which examples ask at least one expert: `<bool>[S]`."""
    return tf.reduce_any(asks_somebody(routing), axis=1)


def pool_spread(
    routing: Routing,
    gate_log_probs: tf.Tensor,
    expert_log_probs: tf.Tensor,
    group_of_class: tf.Tensor,
) -> tf.Tensor:
    """Pooling for group heads without a baseline, where no expert can speak of other groups.

    `p(y) = g(e) f_e(y)` if the expert `e` of y's group was run, else `g(e) / |classes of e|`: the
    mass that the gate leaves to a group that was not computed is spread evenly over its classes.

    Args:
      routing: the assignment, `[S, K]`.
      gate_log_probs: `<float32>[S, E]`.
      expert_log_probs: `<float32>[S, K, L]`, `IMPOSSIBLE` outside of each expert's group.
      group_of_class: `<int32>[L]`.

    Returns:
      `<float32>[S, L]`; sums to 1 because the gate does. With K = E it is the soft mixture.
    """
    num_experts = tf.shape(gate_log_probs)[1]
    sizes = tf.math.bincount(group_of_class, minlength=num_experts, dtype=tf.float32)
    even = -tf.math.log(tf.gather(sizes, group_of_class))  # [L]
    gate = tf.gather(gate_log_probs, group_of_class, axis=1)  # [S, L]
    asked = asks_somebody(routing)[:, :, tf.newaxis]
    right = asked & (routing.expert_index[:, :, tf.newaxis] == group_of_class)  # [S, K, L]
    ran = tf.reduce_any(right, axis=1)
    # At most one expert can speak of a class.
    inside = tf.reduce_max(tf.where(right, expert_log_probs, IMPOSSIBLE), axis=1)
    return gate + tf.where(ran, inside, tf.broadcast_to(even, tf.shape(inside)))
