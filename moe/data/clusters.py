"""Generated images with known clusters, in each of which the same glyphs mean another class."""

from __future__ import annotations

import functools

import numpy as np

from moe.data.source import Examples, Source

SIZE = 32
"""Height and width of an image."""

BAND = 8
"""Height of the ribbon at the top and of the row of glyphs at the bottom; width of a glyph."""

COLOURS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
"""White, red, green and blue as seen from grey; minus these are black, cyan, magenta, yellow."""

_GLYPHS = """
#######  #.##.##  #..##..  ##..##.  #######  #######  ...#...  ...#...
.......  #.##.##  ##..##.  #..##..  #######  #.....#  ..###..  ...#...
#######  #.##.##  .##..##  ..##..#  #######  #.....#  .#####.  ...#...
#######  #.##.##  ..##..#  .##..##  #######  #.....#  #######  #######
.......  #.##.##  #..##..  ##..##.  #######  #.....#  .#####.  ...#...
#######  #.##.##  ##..##.  #..##..  #######  #.....#  ..###..  ...#...
#######  #.##.##  .##..##  ..##..#  #######  #######  ...#...  ...#...
"""


def _parse_glyphs(drawing: str) -> np.ndarray:
    """`<float32>[8, 7, 7]`, one where the drawing has a `#`: the glyph of every class."""
    rows = [line.split() for line in drawing.strip().splitlines()]
    glyphs = [[list(row[column]) for row in rows] for column in range(len(rows[0]))]
    return (np.array(glyphs) == "#").astype(np.float32)


GLYPHS = _parse_glyphs(_GLYPHS)
# They differ within a few pixels. What takes long to tell apart, such as two mirror images, is
# learned only after the gate has settled, and then lands with the wrong expert for good.


def clusters(
    train_examples: int = 8_000,
    test_examples: int = 2_000,
    num_clusters: int = 4,
    num_classes: int = 8,
    seed: int = 0,
) -> Source:
    """Images in `num_clusters` known clusters, each with its own reading of the same glyphs.

    At the top of an image runs a ribbon of flecks in a colour and its opposite: that colour is the
    cluster. At the bottom stands one glyph in every cluster's colour, and the glyph in the colour
    of the ribbon is the label. The glyphs of an image all differ, so under every other ribbon the
    same glyphs have another label.

    The flecks are as often the colour as its opposite and the glyphs are shuffled, so that no
    linear probe of the pixels finds the cluster or the label. Ribbon and glyphs are so far apart
    that a small network with global average pooling can only add up what it sees of both, and no
    such sum is the label. A gate that sees the ribbon, with one such network a cluster that looks
    at the glyphs of one colour, is right everywhere.

    Args:
      train_examples, test_examples: sizes of the two splits.
      num_clusters: from 2 to 4.
      num_classes: from `num_clusters` to 8.
      seed: of the whole data set; the two splits are drawn from independent streams.

    Returns:
      The source; its examples have `<uint8>[N, 32, 32, 3]` features, and their `group` is the
      cluster, `<int32>[N]`.
    """
    if not 2 <= num_clusters <= len(COLOURS):
        raise ValueError(f"num_clusters must be from 2 to {len(COLOURS)}, not {num_clusters}")
    if not num_clusters <= num_classes <= len(GLYPHS):
        raise ValueError(
            f"num_classes must be from num_clusters to {len(GLYPHS)}, not {num_classes}"
        )

    def split(number: int, examples: int) -> Examples:
        rng = np.random.default_rng([seed, number])
        return _draw(rng, examples, num_clusters, num_classes)

    return Source(
        name="clusters",
        classes=tuple(f"glyph_{label}" for label in range(num_classes)),
        train=functools.partial(split, 0, train_examples),
        test=functools.partial(split, 1, test_examples),
        example_groups=tuple(f"cluster_{cluster}" for cluster in range(num_clusters)),
        note=(
            "clusters is synthetic: it asks whether joint training finds known clusters, "
            "and its accuracies say nothing about real images."
        ),
        mirrors=False,  # the stripes of one glyph then run as those of another
    )


def _draw(rng: np.random.Generator, examples: int, num_clusters: int, num_classes: int) -> Examples:
    """One split; every pair of cluster and label is equally frequent, in random order."""
    pair = rng.permutation(np.arange(examples, dtype=np.int32) % (num_clusters * num_classes))
    cluster, label = np.divmod(pair, num_classes)
    readings = draw_readings(rng, cluster, label, num_clusters, num_classes)

    light = np.zeros((examples, SIZE, SIZE, 3), np.float32)
    light[:, :BAND] = _ribbon(rng, cluster)
    light[:, -BAND:] = _glyph_row(rng, readings)
    pixels = 128 + 75 * light + 12 * rng.standard_normal(light.shape, np.float32)
    return Examples(np.clip(pixels, 0, 255).astype(np.uint8), label, cluster)


def draw_readings(
    rng: np.random.Generator,
    cluster: np.ndarray,
    label: np.ndarray,
    num_clusters: int,
    num_classes: int,
) -> np.ndarray:
    """The label that each example has, or would have, in every cluster.

    Args:
      cluster, label: `<int32>[N]`.

    Returns:
      `<int>[N, num_clusters]`, no label twice in a row, and `label` in column `cluster`.
    """
    every = np.tile(np.arange(num_classes), (len(label), 1))
    readings = rng.permuted(every, axis=1)
    # The order is random; what stands where the label belongs changes places with the label.
    example = np.arange(len(label))
    readings[readings == label[:, None]] = readings[example, cluster]
    readings[example, cluster] = label
    return readings[:, :num_clusters]


def _ribbon(rng: np.random.Generator, cluster: np.ndarray) -> np.ndarray:
    """Flecks of two by two pixels in the cluster's colour or its opposite, at random.

    Args:
      cluster: `<int32>[N]`.

    Returns:
      `<float32>[N, BAND, SIZE, 3]` in [-1, 1].
    """
    sign = rng.choice(np.array([-1, 1], np.float32), (len(cluster), BAND // 2, SIZE // 2))
    flecks = sign.repeat(2, axis=1).repeat(2, axis=2)
    return flecks[..., None] * COLOURS[cluster][:, None, None]


def _glyph_row(rng: np.random.Generator, readings: np.ndarray) -> np.ndarray:
    """One glyph in the colour of every cluster, side by side in random order.

    Args:
      readings: `<int>[N, num_clusters]`, the glyph in each colour.

    Returns:
      `<float32>[N, BAND, SIZE, 3]` in [-1, 1].
    """
    examples, num_clusters = readings.shape
    row = np.zeros((examples, BAND, SIZE, 3), np.float32)
    cells = rng.permuted(np.tile(np.arange(SIZE // BAND), (examples, 1)), axis=1)
    example = np.arange(examples)[:, None, None]
    within = np.arange(GLYPHS.shape[1])
    for colour in range(num_clusters):
        # A glyph is a pixel smaller than its cell, which leaves two places in each direction.
        top, start = rng.integers(0, 2, (2, examples, 1, 1))
        start = start + BAND * cells[:, colour, None, None]
        glyph = GLYPHS[readings[:, colour]][..., None] * COLOURS[colour]
        row[example, top + within[:, None], start + within] = glyph
    return row
