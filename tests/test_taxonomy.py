"""Groups: built in, unnamed, from a file; every way a file can be wrong."""

import json

import numpy as np
import pytest

from moe.data.source import Examples, Source
from moe.errors import UserError
from moe.taxonomy import Groups, resolve_groups, stored_groups

CLASSES = ("ant", "bee", "cat", "dog")


def make_source(**changes):
    def refuse():
        raise AssertionError("groups must not need the data")

    return Source(**{"name": "zoo", "classes": CLASSES, "train": refuse, "test": refuse} | changes)


def examples(label, group=None):
    label = np.array(label, np.int32)
    return Examples(np.zeros((len(label), 1), np.float32), label, group)


def write(folder, content):
    path = folder / "groups.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    content = '{"a": ["dog", "cat"], "b": ["ant", "bee"]}'
    plain, marked = (
        resolve_groups(write(tmp_path, m + content), make_source()) for m in ("", "\ufeff")
    )
    assert marked == plain
    assert marked.names == ("a", "b")


def test_semantic_groups_of_a_partition():
    source = make_source(partition={"mammals": ("dog", "cat"), "insects": ("ant", "bee")})
    groups = resolve_groups("semantic", source)
    assert groups == Groups(("mammals", "insects"), named=True, group_of_class=(1, 1, 0, 0))
    result = groups.of(examples([0, 2, 3, 1]))
    np.testing.assert_array_equal(result, [1, 0, 0, 1])
    assert result.dtype == np.int32


def test_semantic_groups_that_the_examples_bring():
    groups = resolve_groups("semantic", make_source(example_groups=("left", "right")))
    assert groups == Groups(("left", "right"), named=True, group_of_class=None)
    own = np.array([1, 0, 1], np.int64)
    result = groups.of(examples([0, 0, 1], own))
    np.testing.assert_array_equal(result, own)
    assert result.dtype == np.int32


def test_unnamed_groups():
    groups = resolve_groups("none:3", make_source())
    assert groups == Groups(("expert_0", "expert_1", "expert_2"), named=False)
    np.testing.assert_array_equal(groups.of(examples([0, 3])), [-1, -1])


def test_a_file_partitions_the_classes(tmp_path):
    path = write(tmp_path, {"pets": ["cat", "dog"], "insects": ["bee", "ant"]})
    assert resolve_groups(path, make_source()) == Groups(
        ("pets", "insects"), named=True, group_of_class=(1, 1, 0, 0)
    )


def test_groups_may_be_of_any_size_down_to_one_class(tmp_path):
    path = write(tmp_path, {"a": ["dog"], "b": ["ant", "cat"], "c": ["bee"]})
    assert resolve_groups(path, make_source()).group_of_class == (1, 2, 1, 0)
    path = write(tmp_path, {"all": list(CLASSES)})
    assert resolve_groups(path, make_source()).group_of_class == (0, 0, 0, 0)


def test_a_partition_wins_over_the_examples_own_groups(tmp_path):
    path = write(tmp_path, {"a": ["ant", "bee"], "b": ["cat", "dog"]})
    groups = resolve_groups(path, make_source(example_groups=("left", "right")))
    np.testing.assert_array_equal(groups.of(examples([0, 2], np.array([1, 1]))), [0, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": ["ant", "bee"], "b": ["cat", "wolf"]}, r"'b' names 'wolf'.*\(ant, bee, cat, dog\)"),
        ({"a": ["ant"], "b": ["cat"]}, r"no group holds 'bee', 'dog'"),
        ({"a": ["ant", "bee"], "b": ["bee", "cat", "dog"]}, r"'bee' stands there more than once"),
        ({"a": ["ant", "ant", "bee", "cat", "dog"]}, r"'ant' stands there more than once"),
        ({"a": list(CLASSES), "b": []}, r"group 'b' has no class"),
        ({"expert_1": list(CLASSES)}, r"'expert_1' cannot name a group; .*expert_N"),
        ({"gate": list(CLASSES)}, r"'gate' cannot name a group"),
        ({}, r"no group holds 'ant', 'bee', 'cat', 'dog'"),
        ([["ant"]], r"must look like"),
        ({"a": "ant"}, r"must look like"),
        ({"a": ["ant", 3]}, r"must look like"),
        ("{'a': ", r"cannot be read as JSON"),
        (
            '{"a": ["ant", "bee"], "a": ["cat", "dog"]}',
            r"cannot be read as JSON \('a' is there twice",
        ),
        ("", r"cannot be read as JSON"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_reason(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        resolve_groups(path, make_source())
    assert path in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--groups=.*nowhere.json: cannot be read"):
        resolve_groups(str(tmp_path / "nowhere.json"), make_source())
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        resolve_groups(str(binary), make_source())
    with pytest.raises(UserError, match="cannot be read as JSON"):
        resolve_groups(str(tmp_path), make_source())


def test_semantic_needs_groups_in_the_data_set():
    with pytest.raises(UserError, match=r"--groups=semantic: zoo has no built-in groups"):
        resolve_groups("semantic", make_source())


def test_stored_groups_stand_in_only_for_a_file_that_is_gone(tmp_path):
    stored = {"b": ["cat", "dog"], "a": ["ant", "bee"]}
    gone = str(tmp_path / "gone.json")
    assert resolve_groups(gone, make_source(), stored) == Groups(("b", "a"), True, (1, 1, 0, 0))
    path = write(tmp_path, {"all": list(CLASSES)})
    assert resolve_groups(path, make_source(), stored).names == ("all",)
    assert resolve_groups("none:2", make_source(), stored).names == ("expert_0", "expert_1")


@pytest.mark.parametrize(
    "groups",
    [
        Groups(("mammals", "insects"), named=True, group_of_class=(1, 1, 0, 0)),
        Groups(("left", "right"), named=True),
        Groups(("expert_0", "expert_1"), named=False),
    ],
)
def test_groups_come_back_from_what_a_run_notes_down(groups):
    noted = json.loads(json.dumps(groups.members(CLASSES)))
    assert stored_groups(noted, CLASSES, groups.named) == groups


def test_stored_groups_that_are_no_partition_are_refused():
    with pytest.raises(UserError, match=r"the stored groups: no group holds 'dog'"):
        stored_groups({"a": ["ant", "bee"], "b": ["cat"]}, CLASSES, named=True)
