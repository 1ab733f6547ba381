"""Images in known clusters, each turned by its cluster's angle: `rotate:NAME`."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import NamedTuple

import numpy as np
import scipy.ndimage

from moe.data.source import Examples, Source
from moe.errors import UserError

FORM = "rotate:NAME?angles=0,180&copies=all"


class Turning(NamedTuple):
    """What stands behind `rotate:`.

    Attributes:
      name: of the set whose images are turned.
      angles: of the clusters, in whole degrees, against the clock; all different.
      copies: `one`: every image is in one cluster, drawn by chance; `all`: in each of them once.
    """

    name: str
    angles: tuple[int, ...] = (0, 90, 180, 270)
    copies: str = "one"


def parse(spec: str) -> Turning:
    """Reads `NAME`, with any of `?angles=A,A` and `&copies=all` behind it.

    Raises:
      UserError: it is none of these.
    """
    name, _, options = spec.partition("?")
    found = Turning(name)
    for option in filter(None, options.split("&")):
        key, _, value = option.partition("=")
        if key == "angles" and re.fullmatch(r"\d{1,3}(,\d{1,3})+", value):
            found = found._replace(angles=tuple(int(angle) for angle in value.split(",")))
        elif key == "copies" and value in ("one", "all"):
            found = found._replace(copies=value)
        else:
            raise UserError(
                f"--dataset=rotate:{spec}: {option} is no option; it must look like {FORM}."
            )
    if max(found.angles) >= 360 or len(set(found.angles)) < len(found.angles):
        raise UserError(f"--dataset=rotate:{spec}: angles must be different ones from 0 to 359.")
    if not name or name.startswith("rotate:"):
        raise UserError(f"--dataset=rotate:{spec}: must look like {FORM}.")
    return found


def rotate(source: Source, turning: Turning) -> Source:
    """The images of `source`, turned by the angles of known clusters; the classes stay.

    After Chen et al. 2022 (2208.02813), whose clusters are the classes and whose label is whether
    an image is turned: here the cluster is the angle, a group that has nothing to do with the
    class. A network must know every class at every angle, an expert at one.

    Every example's cluster is drawn (`Source.arrange`) when it is settled which side it is on, so
    that no image is turned one way in training and another way in the test. Every cluster gets the
    same share of every class.

    Args:
      source: of square images.
      turning: which angles.
    """
    angles = turning.angles
    every = turning.copies == "all"
    arrange = functools.partial(_arrange, angles=angles, every=every)
    told = [
        source.note,
        "Images are turned by known angles, which gate and experts are told in training: here is "
        "something to divide.",
    ]
    if any(angle % 90 for angle in angles):
        told.append("Dark corners show the angle.")
    if every:
        told.append(f"Each image is there at all {len(angles)} angles.")
    return dataclasses.replace(
        source,
        name=f"rotate:{turning.name}?angles={','.join(map(str, angles))}&copies={turning.copies}",
        partition=None,
        example_groups=tuple(f"turned_{angle}" for angle in angles),
        note=" ".join(filter(None, told)),
        arrange=arrange,
        copies=len(angles) if every else 1,
        # Mirrored, what is turned by 90 degrees looks like another image turned by 270.
        mirrors=source.mirrors and set(angles) <= {0, 180},
    )


def _arrange(
    examples: Examples, random: np.random.Generator, angles: tuple[int, ...], every: bool
) -> Examples:
    """Gives each example its cluster and turns it.

    Raises:
      UserError: the features are no square images.
    """
    features = examples.features
    if features.ndim != 4 or features.shape[1] != features.shape[2]:
        way_out = "; --image_size=N makes images N x N" if features.ndim == 4 else ""
        raise UserError(
            f"--dataset=rotate:…: turns square images, not features of shape "
            f"{list(features.shape[1:])}{way_out}."
        )
    if every:
        rows = np.tile(np.arange(len(features)), len(angles))
        cluster = np.repeat(np.arange(len(angles), dtype=np.int32), len(features))
        examples = examples.take(rows)
    else:
        cluster = _draw_clusters(examples.label, len(angles), random)
    turned = examples.features.copy()
    for number, angle in enumerate(angles):
        mine = cluster == number
        turned[mine] = _turn(turned[mine], angle)
    return examples._replace(features=turned, group=cluster)


def _turn(images: np.ndarray, angle: int) -> np.ndarray:
    """`[N, H, H, D]` images, turned; pixels from outside are 0, and show by how far."""
    if angle % 90 == 0:
        return np.rot90(images, angle // 90, axes=(1, 2))
    return scipy.ndimage.rotate(images, angle, axes=(2, 1), reshape=False, order=1)


def _draw_clusters(label: np.ndarray, num_clusters: int, random: np.random.Generator) -> np.ndarray:
    """`<int32>[N]`: clusters at random, each with the same share of each class but for one."""
    cluster = np.empty(len(label), np.int32)
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        # Where classes start differs, so that the examples left over go to different clusters.
        deal = (np.arange(len(members)) + random.integers(num_clusters)) % num_clusters
        cluster[members] = random.permutation(deal)
    return cluster
