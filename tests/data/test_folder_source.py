"""Folders of pictures: both layouts, one fixed test split, every way a folder can be wrong."""

import re

import numpy as np
import pytest
from PIL import Image

from moe.data import folder_source as module
from moe.data.folder_source import folder_source
from moe.data.registry import open_source
from moe.errors import UserError

CLASSES = ("ant", "bee", "cat")
EACH = 10


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def image(value, size=(5, 4), mode="RGB"):
    return Image.new(mode, size, value if mode == "L" else (value, value // 2, 7))


def fill(folder, each=EACH, classes=CLASSES, **options):
    """Every image tells its class and number: red is 20 * class + number."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(each):
            image(20 * label + n, **options).save(folder / name / f"{n}.png")
    return folder


def red(examples):
    return examples.features[:, 0, 0, 0]


def test_each_sub_folder_is_a_class_and_a_fifth_of_it_the_test(tmp_path):
    source = folder_source(str(fill(tmp_path)))
    assert source.name == f"folder:{tmp_path}"
    assert source.classes == CLASSES
    train, test = source.train(), source.test()
    assert train.features.shape == (24, 4, 5, 3)
    assert (train.features.dtype, train.label.dtype) == (np.uint8, np.int32)
    assert np.bincount(test.label).tolist() == [2, 2, 2]
    assert sorted([*red(train), *red(test)]) == [*range(10), *range(20, 30), *range(40, 50)]
    for part in (train, test):
        np.testing.assert_array_equal(part.label, red(part) // 20)
        assert part.features[0, 0, 0].tolist() == [red(part)[0], red(part)[0] // 2, 7]
    again = folder_source(str(tmp_path)).test()
    np.testing.assert_array_equal(again.features, test.features)
    assert "the same 20 %" in source.note


def test_train_and_test_folders_are_the_splits(tmp_path, capsys):
    fill(tmp_path / "train", 3)
    fill(tmp_path / "test", 2, CLASSES[1:])
    (tmp_path / "validation").mkdir()
    source = folder_source(str(tmp_path))
    assert source.classes == CLASSES
    assert len(source.train().label) == 9
    assert source.test().label.tolist() == [1, 1, 2, 2]
    assert source.note == ""
    assert "reads train and test alone, not validation" in capsys.readouterr().err


def test_a_train_folder_alone_gives_a_fifth_away(tmp_path):
    fill(tmp_path / "train")
    source = folder_source(str(tmp_path))
    assert (len(source.train().label), len(source.test().label)) == (24, 6)


def test_grey_images_keep_one_channel_unless_one_has_colours(tmp_path):
    fill(tmp_path, mode="L")
    assert folder_source(str(tmp_path)).train().features.shape == (24, 4, 5, 1)
    image(3).save(tmp_path / "ant" / "0.png")
    source = folder_source(str(tmp_path))
    assert source.train().features.shape == (24, 4, 5, 3)
    assert source.test().features.shape == (6, 4, 5, 3)


def test_images_are_made_one_size_where_that_is_asked_for(tmp_path):
    fill(tmp_path)
    image(1, (9, 9)).save(tmp_path / "bee" / "0.png")
    assert folder_source(str(tmp_path), 6).train().features.shape == (24, 6, 6, 3)
    assert folder_source(str(tmp_path), 8).train().features.shape == (24, 8, 8, 3)


def test_what_file_managers_leave_behind_is_passed_over(tmp_path, capsys):
    fill(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "ant" / "Thumbs.db").touch()
    (tmp_path / "ant" / "._1.png").touch()
    assert len(folder_source(str(tmp_path)).train().label) == 24
    assert not capsys.readouterr().err


def test_the_second_start_decodes_nothing(tmp_path, monkeypatch):
    fill(tmp_path)
    first = folder_source(str(tmp_path)).train()

    def refuse(*args):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "read_image", refuse)
        second = folder_source(str(tmp_path)).train()
    np.testing.assert_array_equal(second.features, first.features)
    image(99).save(tmp_path / "ant" / "1.png")
    changed = folder_source(str(tmp_path))
    assert 99 in {*red(changed.train()), *red(changed.test())}


def test_a_new_class_gives_others_new_numbers_also_where_they_are_cached(tmp_path):
    fill(tmp_path / "train", classes=("bee", "cat"))
    fill(tmp_path / "test", classes=("cat",))
    assert set(folder_source(str(tmp_path)).test().label) == {1}
    fill(tmp_path / "train", classes=("ant",))
    assert set(folder_source(str(tmp_path)).test().label) == {2}


def test_unreadable_files_are_skipped_and_named_where_asked_for(tmp_path, capsys):
    fill(tmp_path)
    for name in ("a.txt", "b.jpg"):
        (tmp_path / "bee" / name).write_text("no image")
    (tmp_path / "README.md").touch()
    for _ in range(2):  # decoded, and from the cache
        source = folder_source(str(tmp_path), skip_unreadable=True)
        examples = [source.train(), source.test()]
        assert sum(len(part.label) for part in examples) == 30
        said = capsys.readouterr().err
        assert "README.md: is skipped" in said
        assert sum(map(int, re.findall(r"(\d+) of \d+ files for \w+ are skipped", said))) == 2
        for name in ("a.txt", "b.jpg"):
            assert len(re.findall(rf"no images: .*bee/{name}[,.]", said)) == 1
        assert "bee/0.png" not in said
        assert all(part.group is None for part in examples)


def _one_class(root):
    fill(root, classes=("ant",))


def _empty_class(root):
    fill(root)
    (root / "dog").mkdir()


def _empty_test_class(root):
    fill(root / "train")
    (root / "test" / "ant").mkdir(parents=True)


def _text(root):
    (fill(root) / "bee" / "a.txt").write_text("no image")


def _stray(root):
    (fill(root) / "labels.csv").touch()


def _nested(root):
    (fill(root) / "bee" / "more").mkdir()


def _new_class(root):
    fill(root / "train")
    fill(root / "test", classes=("ant", "eel"))


def _test_alone(root):
    fill(root / "test")


def _sizes(root):
    image(1, (9, 8)).save(fill(root) / "bee" / "0.png")


def _test_size(root):
    fill(root / "train")
    fill(root / "test", size=(6, 6))


def _single(root):
    (fill(root) / "dog").mkdir()
    image(1).save(root / "dog" / "0.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_one_class, r"--dataset=folder:{root}: has one class only, 'ant'"),
        (_empty_class, r"{root}/dog: is the folder of a class and empty"),
        (_empty_test_class, r"{root}/test/ant: is the folder of a class and empty"),
        (_text, r"{root}/bee/a.txt: is no image that can be read .*--skip_unreadable"),
        (_stray, r"{root}/labels.csv: lies beside the folders of the classes"),
        (_nested, r"{root}/bee/more: is a folder inside of {root}/bee"),
        (_new_class, r"{root}/test/eel: there is no such class under train"),
        (_test_alone, r"folder:{root}: has a folder test and none called train"),
        (_sizes, r"several sizes \(.*bee/0.png 8 x 9.*\); use --image_size=N"),
        (_test_size, r"several sizes \(.*\); use --image_size=N"),
        (_single, r"1 of 4 have a single one \('dog'\)"),
        (lambda root: None, r"{root}: holds no sub-folder"),
        (lambda root: root.rmdir(), r"--dataset=folder:{root}: there is no such folder"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_what_a_folder_must_not_be_is_refused_by_name(tmp_path, make, message):
    root = tmp_path / "pictures"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=message.format(root=root)) as caught:
        folder_source(str(root)).train()
    assert "\n" not in str(caught.value)


def test_a_class_without_a_readable_image_is_refused(tmp_path):
    fill(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.write_text("no image")
    with pytest.raises(UserError, match="no image of 'cat' for train can be read"):
        folder_source(str(tmp_path), skip_unreadable=True).train()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"skip_unreadable": True}, r"--skip_unreadable: is for --dataset=folder:PATH"),
        ("digits", {"image_size": 9}, r"--image_size=9: digits has no images"),
        ("shapes", {"image_size": 9}, r"--image_size=9: shapes has no images of a size to choose"),
        ("csv:a.csv?label=b", {"image_size": 9}, r"--image_size=9: csv:a.csv"),
        ("folder:", {}, r"--dataset=folder:: there is no such folder"),
        ("csv:", {}, r"--dataset=csv:: must be auto, .*folder:PATH, csv:PATH\?label=COLUMN"),
    ],
)
def test_options_of_folders_are_for_folders(name, options, message):
    with pytest.raises(UserError, match=message):
        open_source(name, None, **options)
