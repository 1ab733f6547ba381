"""Generated ten-class images in which most of the confusion lies across two groups of classes."""

from __future__ import annotations

import functools

import numpy as np

from moe.data.source import Examples, Source

SIZE = 32
"""Height and width of an image."""

PARTITION: dict[str, tuple[str, ...]] = {
    "artificial": ("tile", "cross", "grid", "frame"),
    "natural": ("pebble", "flower", "web", "wreath", "leaf", "wave"),
}
CLASSES = PARTITION["artificial"] + PARTITION["natural"]

LOOK_ALIKES = {"tile": "pebble", "cross": "flower", "grid": "web", "frame": "wreath"}
"""Each artificial class and its natural look-alike: one outline, straight or organic."""

STRAIGHT, ORGANIC, SPREAD = 0.2, 0.8, 0.2
"""How organic an image is: its mean by group, and the standard deviation around the mean."""


def shapes(train_examples: int = 10_000, test_examples: int = 2_000, seed: int = 0) -> Source:
    """Colour images of four straight-edged and six organic things, on a plain background.

    Every image has an `organic` value, from 0 (straight edges, sharp corners, flat colour) to 1
    (wavy edges, round corners, mottled colour). It is low for artificial and high for natural
    classes, but the two distributions overlap. An artificial class and its natural look-alike
    (`LOOK_ALIKES`) differ in nothing else, whereas classes of one group have different outlines.

    Args:
      train_examples, test_examples: sizes of the two splits.
      seed: of the whole data set; the two splits are drawn from independent streams.

    Returns:
      The source; its examples have `<uint8>[N, 32, 32, 3]` features.
    """

    def split(number: int, examples: int) -> Examples:
        return _draw(np.random.default_rng([seed, number]), examples)

    return Source(
        name="shapes",
        classes=CLASSES,
        train=functools.partial(split, 0, train_examples),
        test=functools.partial(split, 1, test_examples),
        partition=PARTITION,
        note=(
            "shapes is synthetic and built to favour a mixture of experts: most of its classes "
            "have a look-alike in the other group, so that knowing the group settles most errors."
        ),
    )


def _draw(rng: np.random.Generator, examples: int) -> Examples:
    """One split, with equally frequent classes in random order."""
    label = rng.permutation(np.arange(examples, dtype=np.int32) % len(CLASSES))
    natural = label >= len(PARTITION["artificial"])
    organic = np.where(natural, ORGANIC, STRAIGHT) + rng.normal(0, SPREAD, examples)
    organic = np.clip(organic, 0, 1).astype(np.float32)

    u, v = _coordinates(rng, organic)
    ink = np.empty((examples, SIZE, SIZE), np.float32)
    for index, name in enumerate(CLASSES):
        rows = np.flatnonzero(label == index)
        distance = OUTLINES[name](u[rows], v[rows], organic[rows, None, None])
        # About one pixel of soft edge: a unit of distance is some ten pixels.
        ink[rows] = np.clip(0.5 - 8 * distance, 0, 1)
    return Examples(_paint(rng, ink, organic), label)


def _uniform(
    rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]
) -> np.ndarray:
    """`<float32>` of `shape`, uniform in `[low, high)`."""
    return low + (high - low) * rng.random(shape, np.float32)


def _coordinates(rng: np.random.Generator, organic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates in which each image's thing is drawn, roughly from -1 to 1 inside it.

    Args:
      organic: `<float32>[N]`; it bends the coordinate lines.

    Returns:
      `u`, `v`, both `<float32>[N, SIZE, SIZE]`: shifted, bent, turned and scaled at random.
    """
    each = (len(organic), 1, 1)
    axis = np.linspace(-1.5, 1.5, SIZE, dtype=np.float32)
    x = axis[None, None, :] + _uniform(rng, -0.2, 0.2, each)
    y = axis[None, :, None] + _uniform(rng, -0.2, 0.2, each)
    bend = 0.16 * organic[:, None, None]
    # A wave along each axis is enough to bend every line, and needs no sine of every pixel.
    bent_x = x + bend * np.sin(_uniform(rng, 3, 5, each) * y + _uniform(rng, 0, 2 * np.pi, each))
    bent_y = y + bend * np.sin(_uniform(rng, 3, 5, each) * x + _uniform(rng, 0, 2 * np.pi, each))
    angle = _uniform(rng, -0.3, 0.3, each)
    scale = _uniform(rng, 0.9, 1.25, each)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return cosine * bent_x + sine * bent_y, cosine * bent_y - sine * bent_x


def _paint(rng: np.random.Generator, ink: np.ndarray, organic: np.ndarray) -> np.ndarray:
    """Colours the images, which tells nothing about the class beyond a mottled surface.

    Args:
      ink: `<float32>[N, SIZE, SIZE]` in [0, 1], one inside the thing.
      organic: `<float32>[N]`; it mottles the thing.

    Returns:
      `<uint8>[N, SIZE, SIZE, 3]`.
    """
    each = (len(ink), 1, 1)
    axis = np.arange(SIZE, dtype=np.float32)
    across = np.sin(_uniform(rng, 0.8, 1.4, each) * axis + _uniform(rng, 0, 2 * np.pi, each))
    down = np.sin(_uniform(rng, 0.8, 1.4, each) * axis + _uniform(rng, 0, 2 * np.pi, each))
    ink *= 1 + 0.25 * organic[:, None, None] * (across * down.transpose(0, 2, 1))

    ground = _uniform(rng, 70, 185, (len(ink), 1, 1, 3))
    lighter = rng.choice(np.array([-1, 1], np.float32), (len(ink), 1, 1, 1))
    colour = lighter * _uniform(rng, 30, 70, (len(ink), 1, 1, 1))
    colour = colour + _uniform(rng, -30, 30, (len(ink), 1, 1, 3))
    grain = 8 * rng.standard_normal(ink.shape, np.float32)
    pixels = ink[..., None] * colour
    pixels += ground
    pixels += grain[..., None]
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


def _rounded_box(u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Signed distance to the square from -0.8 to 0.8, its corners rounded by `radius` in [0, 1]."""
    inner = 0.8 * (1 - radius)
    du, dv = np.abs(u) - inner, np.abs(v) - inner
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    return outside + np.minimum(np.maximum(du, dv), 0) - 0.8 * radius


def _block(u: np.ndarray, v: np.ndarray, organic: np.ndarray) -> np.ndarray:
    return _rounded_box(u, v, organic)


def _border(u: np.ndarray, v: np.ndarray, organic: np.ndarray) -> np.ndarray:
    return np.abs(_rounded_box(u, v, organic)) - 0.16


def _arms(u: np.ndarray, v: np.ndarray, organic: np.ndarray) -> np.ndarray:
    """Four arms; the more organic, the more they widen outwards and end in an arc, like petals."""
    u, v = np.abs(u), np.abs(v)
    along, across = np.maximum(u, v), np.minimum(u, v)
    width = 0.28 + organic * (0.35 * along - 0.15)
    end = along - 1 + 0.6 * organic * across
    return np.maximum(across - width, end)


def _mesh(u: np.ndarray, v: np.ndarray, organic: np.ndarray) -> np.ndarray:
    """Two crossing families of lines; the more organic, the rounder the holes between them."""
    spacing = 0.62
    u = np.abs(u / spacing - np.rint(u / spacing)) * spacing
    v = np.abs(v / spacing - np.rint(v / spacing)) * spacing
    # (u, v) is now the offset from the middle of a hole, at most half a spacing.
    return 0.21 - ((1 - organic) * np.maximum(u, v) + organic * np.hypot(u, v))


def _blade(u: np.ndarray, v: np.ndarray, organic: np.ndarray) -> np.ndarray:
    """A pointed leaf with a bare midrib."""
    return np.maximum(np.abs(v) - 0.7 * (1.1 - u * u), 0.06 - np.abs(v))


def _ripples(u: np.ndarray, v: np.ndarray, organic: np.ndarray) -> np.ndarray:
    """Wavy stripes."""
    v = v / 0.6 + 0.25 * np.sin(3 * u)
    return np.abs(v - np.rint(v)) * 0.6 - 0.15


OUTLINES = {
    "tile": _block,
    "pebble": _block,
    "cross": _arms,
    "flower": _arms,
    "grid": _mesh,
    "web": _mesh,
    "frame": _border,
    "wreath": _border,
    "leaf": _blade,
    "wave": _ripples,
}
"""Signed distance (negative inside) of each class, from `u`, `v`, `<float32>[N, SIZE, SIZE]`,
and `organic`, `<float32>[N, 1, 1]`; a class and its look-alike share one."""
