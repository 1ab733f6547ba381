"""Pictures of one's own: `folder:PATH`, one sub-folder a class."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from moe.data.cache import cached
from moe.data.images import UnreadableError, read_image, shape_of, stack
from moe.data.source import Examples, Source
from moe.data.splits import check_classes, hold_out, shortened
from moe.errors import UserError, warn

_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What file managers leave behind, in lower case; and whatever begins with a dot."""

MOST_NAMED = 100
"""Files that one warning names."""

Files = list[tuple[pathlib.Path, int]]
"""Every file with the number of its class."""


def folder_source(
    path: str, image_size: int | None = None, skip_unreadable: bool = False
) -> Source:
    """The images in a folder: `PATH/CLASS/*`, or `PATH/train/CLASS/*` and `PATH/test/CLASS/*`.

    Args:
      path: of the folder.
      image_size: makes every image a square of this size; None: they must have one size.
      skip_unreadable: leave out files that are no images, and name them.

    Raises:
      UserError: there is no such folder, or it does not hold a folder of files for each class.
    """
    name = f"folder:{path}"
    origin = f"--dataset={name}"
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"{origin}: there is no such folder.")
    classes, train, test = _find(root, origin, skip_unreadable)
    note = ""
    if test is None:
        note = f"{name} has no test split: the same 20 % of each class are kept for it."
        parts = hold_out(_labels(train), classes, origin)
        train, test = ([train[row] for row in sorted(rows)] for rows in parts)

    @functools.cache
    def depth() -> int:
        """Of all images. Looks at every file's header, so that most troubles are found at once."""
        return _survey([file for file, _ in train + test], image_size, skip_unreadable, origin)

    def read(part: str, files: Files) -> Examples:
        choices = [f"{number} {file.relative_to(root)}" for file, number in files]
        choices += [f"{image_size=}", f"{skip_unreadable=}", f"depth={depth()}", "group=file"]
        try:
            examples = cached(
                f"folder-{root.resolve().name}-{part}",
                [file for file, _ in files],
                lambda: _decode(files, depth(), image_size, skip_unreadable, origin),
                choices=choices,
            )
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror}).") from error
        there = set(examples.group.tolist())
        skipped = [
            str(file.relative_to(root)) for n, (file, _) in enumerate(files) if n not in there
        ]
        if skipped:
            warn(
                f"{origin}: {len(skipped)} of {len(files)} files for {part} are skipped, no "
                f"images: {shortened(skipped, MOST_NAMED)}."
            )
        lost = {label for _, label in files} - set(examples.label.tolist())
        if lost:
            names = shortened([repr(classes[label]) for label in sorted(lost)])
            raise UserError(f"{origin}: no image of {names} for {part} can be read.")
        return examples._replace(group=None)

    return Source(
        name=name,
        classes=classes,
        train=lambda: read("train", train),
        test=lambda: read("test", test),
        note=note,
    )


def _find(
    root: pathlib.Path, origin: str, skip_unreadable: bool
) -> tuple[tuple[str, ...], Files, Files | None]:
    """The classes, and the files for training and for the test, None where there are none.

    Raises:
      UserError: the folder does not hold a folder of files for each class.
    """
    ours, theirs = root / "train", root / "test"
    if not ours.is_dir():
        if theirs.is_dir():
            raise UserError(f"{origin}: has a folder test and none called train; both, or none.")
        ours = root
    elif others := [path.name for path in _visible(root) if path not in (ours, theirs)]:
        warn(f"{origin}: reads train and test alone, not {shortened(others)}.")
    by_class = _classes_in(ours, skip_unreadable)
    classes = tuple(by_class)
    train = _numbered(by_class, classes)
    check_classes(_labels(train), classes, origin)
    if not theirs.is_dir():
        return classes, train, None
    for_test = _classes_in(theirs, skip_unreadable)
    for name in for_test:
        if name not in classes:
            raise UserError(f"{theirs / name}: there is no such class under train.")
    return classes, train, _numbered(for_test, classes)


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """What is in it, sorted, without hidden files and litter."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name.lower() not in _LITTER
    ]


def _classes_in(folder: pathlib.Path, skip_unreadable: bool) -> dict[str, list[pathlib.Path]]:
    """The files of each class.

    Raises:
      UserError: a file lies beside the classes, a folder inside of one, or a class is empty.
    """
    found = {}
    for path in _visible(folder):
        if not path.is_dir():
            if skip_unreadable:
                warn(f"{path}: is skipped, it lies beside the folders of the classes.")
                continue
            raise UserError(
                f"{path}: lies beside the folders of the classes; move it away, or use "
                "--skip_unreadable."
            )
        found[path.name] = _visible(path)
        for file in found[path.name]:
            if file.is_dir():
                raise UserError(
                    f"{file}: is a folder inside of {path}, which would be a class; the images of "
                    "a class lie in its folder itself."
                )
        if not found[path.name]:
            raise UserError(f"{path}: is the folder of a class and empty; fill or remove it.")
    if not found:
        raise UserError(f"{folder}: holds no sub-folder; there must be one for each class.")
    return found


def _numbered(by_class: Mapping[str, Sequence[pathlib.Path]], classes: Sequence[str]) -> Files:
    return [(file, classes.index(name)) for name, files in by_class.items() for file in files]


def _labels(files: Files) -> np.ndarray:
    return np.array([label for _, label in files], np.int32)


def _survey(
    files: Sequence[pathlib.Path], image_size: int | None, skip_unreadable: bool, origin: str
) -> int:
    """The depth that all images get: 1 where every one of them is grey, else 3.

    Raises:
      UserError: a file is no image, or they have several sizes and are not to be resized.
    """
    first: dict[tuple[int, int], pathlib.Path] = {}
    deepest = 1
    for file in files:
        try:
            height, width, depth = shape_of(file)
        except UnreadableError as error:
            if not skip_unreadable:
                raise _refusal(file, error) from error
            continue
        first.setdefault((height, width), file)
        deepest = max(deepest, depth)
        if image_size is None and len(first) > 1:
            sizes = " and ".join(f"{path} {h} x {w}" for (h, w), path in first.items())
            raise UserError(
                f"{origin}: its images have several sizes ({sizes}); use --image_size=N to make "
                "them N x N."
            )
    return deepest


def _decode(
    files: Files, depth: int, image_size: int | None, skip_unreadable: bool, origin: str
) -> Examples:
    """The images; their `group` is the number of the file, so that the cache knows who is left."""
    label, kept = [], []

    def images() -> Iterator[np.ndarray]:
        for n, (file, number) in enumerate(files):
            try:
                image = read_image(file, depth)
            except UnreadableError as error:
                if not skip_unreadable:
                    raise _refusal(file, error) from error
                continue
            label.append(number)
            kept.append(n)
            yield image

    features = stack(images(), len(files), image_size, origin)
    return Examples(features, np.array(label, np.int32), np.array(kept, np.int32))


def _refusal(file: pathlib.Path, error: UnreadableError) -> UserError:
    return UserError(
        f"{file}: is no image that can be read ({error}); mend it, remove it, or use "
        "--skip_unreadable."
    )
