"""From a configuration to a built mixture whose weights depend on nothing but the seed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import keras

from moe import randomness
from moe.backbone_names import each_backbone
from moe.config.run import Config
from moe.models import backbones, gate
from moe.models.mixture import MixtureOfExperts
from moe.models.starts import start_as_identity
from moe.models.trunk import branch_of, trunk_of
from moe.taxonomy import Groups


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Builds Keras layers under the policy `name`, then puts the old one back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_mixture(
    config: Config,
    groups: Groups,
    input_shape: tuple[int, ...],
    num_classes: int,
    policy: str = "float32",
) -> MixtureOfExperts:
    """Builds every network of the mixture.

    Each network's initial weights depend on the seed and on its own name only, never on the order
    of creation: the baseline of a separate run is the baseline of a joint one.

    Args:
      config: fully resolved (`moe.defaults.resolve`).
      groups: one expert each.
      input_shape: shape of one example's features.
      num_classes: L.
      policy: a Keras dtype policy name.
    """
    model, seed = config.model, config.train.seed

    def network(part: str, build: Callable[[], keras.Model]) -> keras.Model:
        keras.utils.set_random_seed(randomness.seed_pair(seed, "initialise", part)[0])
        built = build()
        if model.identity_init:
            start_as_identity(built)
        return built

    def make_trunk() -> keras.Model:
        whole = backbones.build(model.expert_backbone, input_shape, num_classes)
        return trunk_of(whole, model.trunk, model.expert_backbone)

    def named(part: str, backbone: str, outputs: int) -> keras.Model:
        def build() -> keras.Model:
            whole = backbones.build(backbone, input_shape, outputs)
            if trunk is None:
                return whole
            return branch_of(whole, model.trunk, backbone, trunk.output_shape[1:])

        return network(part, build)

    def combiner(part: str) -> keras.Model:
        shape = input_shape if trunk is None else trunk.output_shape[1:]
        outputs = num_classes if model.boost == "per_class" else 1
        return network(part, lambda: backbones.combiner(shape, outputs))

    num_experts, noisy = len(groups.names), model.routing == "noisy_topk"

    def gate_network() -> keras.Model:
        built = named("gate", model.gate_backbone, num_experts * (1 + noisy))
        if noisy:
            gate.start_noise_even(built, num_experts)
        return built

    expert_backbones = each_backbone(model.expert_backbone, num_experts)
    group_of_class = groups.group_of_class if model.expert_head == "group" else None
    experts = range(num_experts)
    with dtype_policy(policy):
        trunk = network("trunk", make_trunk) if model.trunk else None
        mixture = MixtureOfExperts(
            gate=gate_network(),
            experts=[
                named(
                    f"expert_{e}",
                    expert_backbones[e],
                    group_of_class.count(e) if group_of_class else num_classes,
                )
                for e in experts
            ],
            num_classes=num_classes,
            baseline=named("baseline", model.baseline_backbone, num_classes)
            if model.baseline
            else None,
            trunk=trunk,
            combiners=[combiner(f"combiner_{e}") for e in experts] if model.boost != "none" else [],
            group_of_class=group_of_class,
            gate_temperature=model.gate_temperature,
            gate_noise=noisy,
            balanced=model.balance_bias > 0,
            whitens=model.whiten,
        )
        mixture.build((None, *input_shape))
    return mixture
