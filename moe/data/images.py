"""Images of any size and kind, put together into one array."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from moe.errors import UserError

_GREY = ("1", "L", "LA")
_DEEP = ("I", "F")
"""First letters of Pillow's modes with more than 8 bits a pixel."""


class UnreadableError(Exception):
    """A file that cannot be made an image; the message says why."""


def shape_of(path: pathlib.Path) -> tuple[int, int, int]:
    """Height, width and depth of the image in a file, by its header: depth 1 for grey, else 3.

    As it is stored: `read_image` puts one upright that was taken with the camera on its side.

    Raises:
      UnreadableError: it is no image, or has more than 8 bits a pixel.
    """
    with _opened(path) as image:
        return image.height, image.width, 1 if image.mode in _GREY else 3


def read_image(path: pathlib.Path, depth: int) -> np.ndarray:
    """The image in a file, upright, without transparency: `<uint8>[H, W, depth]`.

    Args:
      path: of the file; of several pictures in it the first one counts.
      depth: 1 or 3 channels; colours become grey, and grey ones colours, as need be.

    Raises:
      UnreadableError: it is no image, a damaged one, or has more than 8 bits a pixel.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)  # as the camera was held
        pixels = np.asarray(upright.convert("L" if depth == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], depth)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Image.Image]:
    """The image in a file, to be looked at inside the block; what goes wrong there is its fault."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_DEEP):
                raise UnreadableError("it has more than 8 bits a pixel")
            yield image
    except UnreadableError:
        raise
    except Exception as error:  # Whatever Pillow's decoders raise.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(reason) from error


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole image, stretched: `<uint8>[H, W, D]` -> `[height, width, D]`.

    Linear interpolation over all pixels that a new one covers, so that smaller is also smoother.
    """
    plain = image[..., 0] if image.shape[-1] == 1 else image
    small = Image.fromarray(plain).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(height, width, image.shape[-1])


def stack(images: Iterable[np.ndarray], count: int, size: int | None, origin: str) -> np.ndarray:
    """All images in one array, `<uint8>[N, H, W, D]`, with a progress bar where that takes long.

    Args:
      images: `<uint8>[H, W, D]` each.
      count: how many there are at most.
      size: make each of them a square of this many pixels a side; None: they must have one size.
      origin: what the data set is called, for the message.

    Raises:
      UserError: they have several sizes and `size` is None, or several depths.
    """
    whole = np.empty((0, 0, 0, 0), np.uint8)
    number = 0
    for image in tqdm(images, origin, count, leave=False, disable=None, delay=2, unit=" images"):
        image = image if size is None else resized(image, size, size)
        if number == 0:
            whole = np.empty((count, *image.shape), np.uint8)
        elif image.shape != whole.shape[1:]:
            shapes = " and ".join(" x ".join(map(str, s)) for s in (whole.shape[1:], image.shape))
            raise UserError(
                f"{origin}: its images have several shapes ({shapes})"
                + ("; use --image_size=N to make them N x N." if size is None else ".")
            )
        whole[number] = image
        number += 1
    return whole[:number]
