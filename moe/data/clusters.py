"""Generated images with known clusters in which the same pattern means different classes."""

from __future__ import annotations

import functools

import numpy as np

from moe.data.source import Examples, Source

SIZE = 32
"""Height and width of an image."""

STRIPE_ROWS = 7
"""Rows of the striped band at the top."""

GLYPH_ROWS = 8
"""Rows of the band of glyphs at the bottom."""

import os

FREQUENT_SHARE = float(os.environ.get("FS", ".25"))
_GLYPHS = """
..###..  ###.###  ...#...  #.....#  #######  #..#..#  ....###  ###....
.#...#.  #.....#  ...#...  .#...#.  .......  #..#..#  ....###  ###....
#.....#  #.....#  ...#...  ..#.#..  .......  #..#..#  ....###  ###....
#.....#  .......  #######  ...#...  #######  #..#..#  .......  .......
#.....#  #.....#  ...#...  ..#.#..  .......  #..#..#  ###....  ....###
.#...#.  #.....#  ...#...  .#...#.  .......  #..#..#  ###....  ....###
..###..  ###.###  ...#...  #.....#  #######  #..#..#  ###....  ....###
"""


def _parse_glyphs(drawing: str) -> np.ndarray:
    """`<float32>[8, 7, 7]`, one where the drawing has a `#`: the pattern of every class."""
    rows = [line.split() for line in drawing.strip().splitlines()]
    glyphs = [[list(row[column]) for row in rows] for column in range(len(rows[0]))]
    return (np.array(glyphs) == "#").astype(np.float32)


GLYPHS = _parse_glyphs(_GLYPHS)


def label_map(num_clusters: int, num_classes: int) -> np.ndarray:
    """The label of every pattern in every cluster: `<int32>[num_clusters, num_classes]`.

    Each row is a permutation, and no column holds a label twice: a pattern never has the same
    label in two clusters, so the pattern alone cannot tell the label and neither can the cluster.
    """
    shift = np.arange(num_clusters)[:, None] * (num_classes // num_clusters)
    if os.environ.get("XOR"):
        return (np.arange(num_classes)[None, :] ^ shift).astype(np.int32)
    return ((np.arange(num_classes)[None, :] + shift) % num_classes).astype(np.int32)


def clusters(
    train_examples: int = 8_000,
    test_examples: int = 2_000,
    num_clusters: int = 4,
    num_classes: int = 8,
    seed: int = 0,
) -> Source:
    """Images in `num_clusters` known clusters, each with its own meaning of the same patterns.

    The upper part of an image is striped, and the direction of the stripes is the cluster. The
    lower part repeats one of `num_classes` glyphs, and `label_map` says which label that glyph has
    in that cluster. Phase, contrast and places are random, so no single pixel tells anything: a
    linear probe of the pixels stays at chance for the label and for the cluster. Network parts
    that add up what they see in the two parts of the image cannot tell the label either; a gate
    that sees the stripes, and one simple expert a cluster that sees the glyphs, can.

    Args:
      train_examples, test_examples: sizes of the two splits.
      num_clusters: from 2 to `num_classes`.
      num_classes: the number of patterns and of labels, at most `len(GLYPHS)`.
      seed: of the whole data set; the two splits are drawn from independent streams.

    Returns:
      The source; its examples have `<uint8>[N, 32, 32, 3]` features, and their `group` is the
      cluster, `<int32>[N]`.
    """
    if not 2 <= num_clusters <= num_classes <= len(GLYPHS):
        raise ValueError(
            f"need 2 <= num_clusters <= num_classes <= {len(GLYPHS)}, "
            f"not {num_clusters} clusters and {num_classes} classes"
        )

    def split(number: int, examples: int) -> Examples:
        rng = np.random.default_rng([seed, number])
        return _draw(rng, examples, num_clusters, num_classes)

    return Source(
        name="clusters",
        classes=tuple(f"class_{label}" for label in range(num_classes)),
        train=functools.partial(split, 0, train_examples),
        test=functools.partial(split, 1, test_examples),
        example_groups=tuple(f"cluster_{cluster}" for cluster in range(num_clusters)),
        note=(
            "clusters is synthetic: it asks whether joint training finds known clusters, "
            "and its accuracies say nothing about real images."
        ),
    )


def _draw(rng: np.random.Generator, examples: int, num_clusters: int, num_classes: int) -> Examples:
    """One split; every pair of cluster and pattern is equally frequent, in random order."""
    step = num_classes // num_clusters
    share = np.full(num_classes, (1 - FREQUENT_SHARE) / (num_classes - step))
    share[:step] = FREQUENT_SHARE / step
    cluster = rng.permutation(np.arange(examples, dtype=np.int32) % num_clusters)
    pattern = rng.choice(num_classes, examples, p=share)

    light = np.zeros((examples, SIZE, SIZE, 3), np.float32)
    T = int(os.environ.get("TR", "8"))
    B = int(os.environ.get("BR", "8"))
    light[:, :T] = _wave(rng, cluster, T)[..., None] * float(os.environ.get("SA", "1"))
    light[:, -B:] = _confetti(rng, pattern) * float(os.environ.get("CA", "1"))
    pixels = 128 + 75 * light
    pixels += rng.normal(0, 12, pixels.shape).astype(np.float32)
    features = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return Examples(features, label_map(num_clusters, num_classes)[cluster, pattern], cluster)


def _stripes(rng: np.random.Generator, cluster: np.ndarray, num_clusters: int) -> np.ndarray:
    """The upper part, `<float32>[N, STRIPE_ROWS, SIZE]` in [-1, 1]: stripes of random phase.

    Args:
      cluster: `<int32>[N]`; the directions of the clusters divide the half circle evenly.
    """
    examples = len(cluster)
    angle = np.pi * cluster / num_clusters + rng.normal(0, 0.05, examples)
    wavelength = rng.uniform(4.5, 5.5, examples)
    phase = rng.uniform(0, 2 * np.pi, examples)
    y, x = np.mgrid[:STRIPE_ROWS, :SIZE]
    angle, wavelength, phase = (each[:, None, None] for each in (angle, wavelength, phase))
    along = np.cos(angle) * x + np.sin(angle) * y
    return np.sin(2 * np.pi * along / wavelength + phase).astype(np.float32)


def _confetti(rng, pattern):
    n = len(pattern)
    axes = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    sign = rng.choice(np.array([-1, 1], np.float32), (n, GLYPH_ROWS // 2, SIZE // 2))
    bars = (pattern // 4 == 1)[:, None, None]
    sign = np.where(bars, sign[:, :1], sign).repeat(2, 1).repeat(2, 2)
    return sign[..., None] * axes[pattern % 4][:, None, None]


def _colours(rng, c, T):
    n = len(c)
    axes = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    sign = (
        rng.choice(np.array([-1, 1], np.float32), (n, T // 2, SIZE // 2)).repeat(2, 1).repeat(2, 2)
    )
    return sign[..., None] * axes[c][:, None, None]


def _wave(rng, p, B):
    n = len(p)
    angle = np.pi * (p % 4) / 4
    wl = np.where(p >= 4, 6, 3)
    phase = rng.uniform(0, 2 * np.pi, n)
    y, x = np.mgrid[:B, :SIZE]
    angle, wl, phase = (each[:, None, None] for each in (angle, wl, phase))
    along = np.cos(angle) * x + np.sin(angle) * y
    return np.sin(2 * np.pi * along / wl + phase).astype(np.float32)
