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
    pair = rng.permutation(np.arange(examples) % (num_clusters * num_classes))
    cluster, pattern = np.divmod(pair.astype(np.int32), num_classes)

    light = np.zeros((examples, SIZE, SIZE), np.float32)
    light[:, :STRIPE_ROWS] = _stripes(rng, cluster, num_clusters)
    light[:, -GLYPH_ROWS:] = _glyph_rows(rng, pattern)
    # Both colours of an image lie on either side of a middle grey with a random tint: no mean
    # brightness, and no hue, depends on the cluster or on the pattern.
    tint = rng.uniform(0.5, 1.0, (examples, 1, 1, 3)).astype(np.float32)
    middle = rng.uniform(110, 145, (examples, 1, 1, 3)).astype(np.float32)
    pixels = middle + 75 * tint * light[..., None]
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


def _glyph_rows(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """The lower part, `<float32>[N, GLYPH_ROWS, SIZE]` in [-1, 1]: three equal glyphs.

    Each glyph stands at a random place in its third of the width, all of an image either darker
    or lighter than the ground.

    Args:
      pattern: `<int32>[N]`, the glyph of each image.
    """
    examples = len(pattern)
    glyph_size = GLYPHS.shape[1]
    part = np.zeros((examples, GLYPH_ROWS, SIZE), np.float32)
    example = np.arange(examples)[:, None, None]
    within = np.arange(glyph_size)
    polarity = rng.choice(np.array([-1, 1], np.float32), (examples, 1, 1))
    third = SIZE // 3
    for left in (0, third, 2 * third):
        top = rng.integers(0, GLYPH_ROWS - glyph_size + 1, examples)[:, None, None]
        start = left + rng.integers(0, third - glyph_size + 1, examples)[:, None, None]
        part[example, top + within[:, None], start + within] = polarity * GLYPHS[pattern]
    return part
