from __future__ import annotations

import http.server
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tfds_sets import prepare

from moe.data import registry, tfds_source
from moe.errors import UserError

PREPARED = os.environ.get("TFDS_DATA_DIR", "")
ROOT = pathlib.Path(__file__).parents[2]
needs_cifar10 = pytest.mark.skipif(
    not (PREPARED and (pathlib.Path(PREPARED) / "cifar10").is_dir()),
    reason="CIFAR-10 is not prepared: set TFDS_DATA_DIR",
)


@needs_cifar10
def test_cifar10_is_the_published_set():
    source = registry.open_source("cifar10", None)
    assert source.classes[:3] == ("airplane", "automobile", "bird")
    examples = source.train()
    assert examples.features.shape == (50_000, 32, 32, 3)
    assert examples.features.dtype == np.uint8
    assert np.bincount(examples.label).tolist() == [5_000] * 10
    # Published channel means of the training split.
    means = examples.features[::10].mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.005)
    assert len(source.test().label) == 10_000
    members = [name for group in source.partition.values() for name in group]
    assert sorted(members) == sorted(source.classes)


@needs_cifar10
def test_auto_is_cifar10_where_it_is_prepared():
    assert registry.open_source("auto", None).name == "cifar10"


def test_a_missing_set_is_answered_within_seconds(tmp_path, monkeypatch):
    # An address that swallows packets, as a cut-off machine meets it.
    monkeypatch.setattr(tfds_source, "_reachable", _with_url("http://192.0.2.1/file"))
    started = time.monotonic()
    with pytest.raises(UserError, match=r"not prepared under .* set --data_dir"):
        registry.open_source("cifar10", str(tmp_path))
    # The promise, not a speed: TFDS itself tries for minutes.
    assert time.monotonic() - started < 15


def test_auto_falls_back_to_shapes_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tfds_source, "_reachable", lambda urls: False)
    source = registry.open_source("auto", str(tmp_path))
    assert source.name == "shapes"
    assert "warning: CIFAR-10 is not prepared here" in capsys.readouterr().err
    assert "synthetic" in source.note


@pytest.mark.parametrize("name", ["no_such_set", "csv", "nonsense:1"])
def test_an_unknown_set_is_never_replaced(name):
    with pytest.raises(UserError, match=f"--dataset={name}"):
        registry.open_source(name, None)


class Server(http.server.BaseHTTPRequestHandler):
    """Gives out `/200`, refuses `/403` and so on; knows no HEAD, which it answers with 501."""

    def do_GET(self):
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("path", "expected"), [("200", True), ("403", False), ("404", False), ("503", False)]
)
def test_only_a_server_that_gives_out_the_file_can_be_downloaded_from(server, path, expected):
    assert tfds_source._reachable([f"{server}/{path}"]) == expected


@pytest.mark.parametrize("urls", [[], ["http://127.0.0.1:1/closed"], ["no address"]])
def test_no_server_and_no_address_are_answers_too(urls):
    assert not tfds_source._reachable(urls)


def test_a_refusing_server_is_one_line(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_reachable", _with_url(f"{server}/404"))
    with pytest.raises(UserError, match=r"not prepared under .* set --data_dir"):
        registry.open_source("cifar10", str(tmp_path))


def test_a_host_name_that_is_never_found_does_not_keep_the_program_alive():
    code = (
        "import socket, threading; from moe.data import tfds_source;"
        "socket.getaddrinfo = lambda *args, **rest: threading.Event().wait();"
        "tfds_source._REACH_SECONDS = 0.01;"
        "print(tfds_source._reachable(['http://example.invalid/file']))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout == "False\n"
    assert answer.returncode == 0


# --- a prepared set, and damage to it -----------------------------------------------------------

CLASSES = tuple("abc")
TRAIN, TEST = 20, 6


def _images(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size, 6, 5, 3)).astype(np.uint8)


def _numbered(images) -> list[tuple[np.ndarray, int]]:
    """The images with a label each, in turns."""
    return [(image, number % len(CLASSES)) for number, image in enumerate(images)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which TFDS has prepared the set `tiny`; not to be changed."""
    root = tmp_path_factory.mktemp("prepared")
    image = tfds.features.Image(shape=(6, 5, 3))
    splits = {"train": _numbered(_images(TRAIN)), "test": _numbered(_images(TEST))}
    prepare(root, "tiny", splits, classes=CLASSES, image=image)
    return root


@pytest.fixture
def tiny(prepared, tmp_path, monkeypatch):
    """A copy of the prepared set: its root; decoded splits are cached apart."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(prepared, tmp_path / "data")


def _folder(root: pathlib.Path) -> pathlib.Path:
    return root / "tiny" / "1.0.0"


def _record_file(root: pathlib.Path, split: str = "train") -> pathlib.Path:
    (path,) = _folder(root).glob(f"tiny-{split}.tfrecord*")
    return path


@pytest.mark.parametrize("at_once", [1_000, 4])
def test_a_prepared_set_is_read_as_it_was_written(tiny, monkeypatch, at_once):
    monkeypatch.setattr(tfds_source, "_AT_ONCE", at_once)
    source = registry.open_source("tiny", str(tiny))
    assert source.classes == CLASSES
    for _ in range(2):  # decoded, and from the cache
        for examples, size in ((source.train(), TRAIN), (source.test(), TEST)):
            np.testing.assert_array_equal(examples.features, _images(size))
            np.testing.assert_array_equal(examples.label, np.arange(size) % len(CLASSES))
            assert examples.label.dtype == np.int32


@pytest.mark.parametrize(("damage", "cache"), [("cut", "cold"), ("flipped", "warm")])
def test_a_damaged_record_file_never_gives_other_examples(tiny, damage, cache):
    path = _record_file(tiny)
    whole = path.read_bytes()
    source = registry.open_source("tiny", str(tiny))
    if cache == "warm":
        source.train()
    # In every byte of the first record's length and its checksum, then here and there.
    for place in {*range(14), *range(14, len(whole), 331), len(whole) - 1}:
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        path.write_bytes(broken if damage == "flipped" else whole[:place])
        with pytest.raises(UserError, match=rf"^{path}: .*prepare the data set again\.$"):
            source.train()
    assert len(source.test().label) == TEST


def test_a_file_cut_between_two_records_is_noticed(tiny):
    """Its checksums are all right."""
    import tensorflow as tf

    path = _record_file(tiny)
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records[:-1]:
            writer.write(record)
    with pytest.raises(UserError, match=f"^{path}: holds 19 records instead of 20"):
        registry.open_source("tiny", str(tiny)).train()


def test_a_missing_record_file_is_named(tiny):
    path = _record_file(tiny, "test")
    path.unlink()
    source = registry.open_source("tiny", str(tiny))
    assert len(source.train().label) == TRAIN
    with pytest.raises(UserError, match=f"^{path}: cannot be read"):
        source.test()


def _replace(old: str, new: str):
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("dataset_info.json", lambda text: text[: len(text) // 2]),
        ("dataset_info.json", lambda text: ""),
        ("dataset_info.json", lambda text: "null"),
        ("dataset_info.json", lambda text: "{}"),
        ("dataset_info.json", lambda text: "\x00\x01"),
        ("dataset_info.json", None),
        ("dataset_info.json", _replace('"20"', '"19"')),
        ("dataset_info.json", _replace('"20"', '"many"')),
        ("dataset_info.json", _replace('"20"', '"10", "10"')),
        ("dataset_info.json", _replace("{DATASET}", "{NOTHING}")),
        ("dataset_info.json", _replace('"label"', '"nothing"')),
        ("dataset_info.json", _replace('"train"', '"nothing"')),
        ("features.json", lambda text: text[: len(text) // 2]),
        ("features.json", lambda text: "null"),
        ("features.json", None),
        ("features.json", _replace("uint8", "uint9")),
        ("features.json", _replace('"5"', '"4"')),
        ("features.json", _replace("ClassLabel", "ClassLabels")),
        ("label.labels.txt", _replace("b\n", "")),
        ("label.labels.txt", _replace("b\n", "a\n")),
    ],
)
def test_damaged_metadata_are_one_line_that_names_the_folder(tiny, file, change):
    path = _folder(tiny) / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=str(tiny / "tiny")):
        registry.open_source("tiny", str(tiny)).train()


def test_auto_does_not_pass_over_a_damaged_cifar10(tmp_path):
    """Synthetic images instead of it would be a surprise."""
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "cifar')
    with pytest.raises(UserError, match=f"--dataset=cifar10: .*{tmp_path / 'cifar10'}"):
        registry.open_source("auto", str(tmp_path))


# --- sets of other kinds ------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Prepares the set `other` and opens it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(splits, image_size=None, **features):
        if not (tmp_path / "data").exists():
            prepare(tmp_path / "data", "other", splits, classes=CLASSES, **features)
        return registry.open_source("other", str(tmp_path / "data"), image_size)

    return make


def _of_sizes(count: int, *sizes: tuple[int, int]) -> list[tuple[np.ndarray, int]]:
    return _numbered(np.full((*sizes[n % len(sizes)], 3), n, np.uint8) for n in range(count))


def test_images_of_several_sizes_need_to_be_told_which_one(make):
    splits = {"train": _of_sizes(6, (4, 5), (7, 3)), "test": _of_sizes(3, (9, 9))}
    with pytest.raises(
        UserError, match=r"--dataset=other: .*\(4 x 5 x 3 and 7 x 3 x 3\); use --image_size=N"
    ):
        make(splits).train()
    for size in (8, 6):
        source = make(splits, size)
        for part, count in ((source.train(), 6), (source.test(), 3)):
            assert part.features.shape == (count, size, size, 3)
            np.testing.assert_array_equal(part.features[:, 0, 0, 0], np.arange(count))
            np.testing.assert_array_equal(part.label, np.arange(count) % 3)


def test_images_that_happen_to_have_one_size_are_taken_as_they_are(make):
    splits = {"train": _of_sizes(3, (4, 5)), "test": _of_sizes(3, (4, 5))}
    assert make(splits).train().features.shape == (3, 4, 5, 3)


def test_grey_images_keep_one_channel(make):
    grey = tfds.features.Image(shape=(4, 4, 1))
    splits = {s: _numbered(np.zeros((3, 4, 4, 1), np.uint8)) for s in ("train", "test")}
    assert make(splits, image=grey).train().features.shape == (3, 4, 4, 1)
    assert make(splits, 2).train().features.shape == (3, 2, 2, 1)


def test_a_set_without_a_test_split_gives_a_fifth_of_each_class(make):
    source = make({"train": _of_sizes(30, (4, 4))})
    train, test = source.train(), source.test()
    assert np.bincount(test.label).tolist() == [2, 2, 2]
    seen = np.concatenate([train.features, test.features])[:, 0, 0, 0]
    assert sorted(seen) == list(range(30))
    assert "the same 20 %" in source.note


def test_a_validation_split_stands_in_for_a_missing_test(make):
    source = make({"train": _of_sizes(6, (4, 4)), "validation": _of_sizes(3, (4, 4))})
    assert (len(source.train().label), len(source.test().label)) == (6, 3)
    assert "its validation split stands in" in source.note


def test_a_label_that_is_no_class_is_refused_with_split_and_row(make):
    whole = _of_sizes(6, (4, 4))
    unlabelled = [(image, -1 if n > 3 else label) for n, (image, label) in enumerate(whole)]
    source = make({"train": whole, "test": unlabelled})
    assert source.train().label.max() == 2
    message = r"--dataset=other: split test, example 4 has the label -1.* 0 to 2 \(2 of 6 labels"
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(UserError, match=message):
            source.test()


def test_a_label_beyond_the_classes_is_refused(prepared, tmp_path, monkeypatch):
    """TFDS would not write one; its mock does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def examples(builder, **kwargs):
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(
            {"image": _images(TRAIN), "label": np.arange(TRAIN) % 4}
        )

    with tfds.testing.mock_data(as_dataset_fn=examples, data_dir=str(prepared)):
        source = registry.open_source("tiny", None)
        with pytest.raises(UserError, match=r"split train, example 3 has the label 3, .* 0 to 2"):
            source.train()


def test_images_of_16_bits_are_refused(make):
    deep = tfds.features.Image(shape=(2, 2, 1), dtype=np.uint16)
    splits = {s: _numbered(np.zeros((3, 2, 2, 1), np.uint16)) for s in ("train", "test")}
    with pytest.raises(UserError, match=r"needs images of 8 bits .* \(image is uint16"):
        make(splits, image=deep)


def _with_url(url: str):
    original = tfds_source._reachable
    return lambda urls: original([url])
