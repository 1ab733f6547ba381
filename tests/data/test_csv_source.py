"""Tables of one's own: what is learned from whom, and every way a file can be wrong."""

import numpy as np
import pytest
import sklearn.model_selection

from moe.data.csv_source import csv_source
from moe.data.table import Table
from moe.errors import UserError

SPECIES = ("setosa", "versicolor", "virginica")
HEADER = "id,width,colour,species"
ROWS = [f"{n},{n / 10},{('red', 'blue')[n % 2]},{SPECIES[n % 3]}" for n in range(30)]


def write(folder, lines=(HEADER, *ROWS), name="x.csv", encoding="utf-8"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def raw(column, rows):
    """Cells of the rows by their number."""
    return [ROWS[row].split(",")[column] for row in rows]


def held_out():
    label = np.arange(30) % 3
    return sklearn.model_selection.train_test_split(
        np.arange(30), test_size=0.2, stratify=label, random_state=0
    )


def test_a_table_is_split_and_made_into_numbers(tmp_path):
    spec = f"{write(tmp_path)}?label=species&drop=id"
    source = csv_source(spec)
    assert source.name == f"csv:{spec}"
    assert source.classes == SPECIES
    train, test = held_out()
    for examples, rows in ((source.train(), train), (source.test(), test)):
        np.testing.assert_array_equal(examples.label, rows % 3)
        median = np.median(train / 10)
        expected = np.stack([rows / 10 - median, rows % 2, 1 - rows % 2], axis=1)
        np.testing.assert_allclose(examples.features, expected, atol=1e-6)
        assert examples.features.dtype == np.float32
        assert examples.label.dtype == np.int32
        assert examples.weight is None
    assert "the same 20 %" in source.note
    stored = Table.from_dict(source.table)
    cells = list(zip(raw(1, test), raw(2, test), strict=True))
    np.testing.assert_array_equal(stored.apply(cells), source.test().features)


def test_a_label_that_may_say_nothing_is_a_class_with_a_warning(tmp_path, capsys):
    lines = [HEADER, *(row if n % 3 else f"{row[:-6]}NA" for n, row in enumerate(ROWS))]
    source = csv_source(f"{write(tmp_path, lines)}?label=species&drop=id")
    assert "NA" in source.classes
    assert "'NA' in column 'species' (10 rows) is taken for a class" in capsys.readouterr().err


def test_one_number_in_two_spellings_is_warned_of(tmp_path, capsys):
    lines = ["x,y", *(f"{n},{('1', '1.0', '2')[n % 3]}" for n in range(30))]
    assert csv_source(f"{write(tmp_path, lines)}?label=y").classes == ("1", "1.0", "2")
    assert "'1' and '1.0' in column 'y' are taken for two classes" in capsys.readouterr().err


def test_everything_is_learned_from_the_given_rows_alone(tmp_path):
    train, test = held_out()
    rows = [line.split(",") for line in ROWS]
    rows[train[3]][2] = "green"  # trained on
    rows[train[5]][2] = "pink"  # kept for validation
    rows[test[0]][2] = "black"
    for row in test:
        rows[row][1] = "1e6"  # no median may see it
    source = csv_source(f"{write(tmp_path, [HEADER, *map(','.join, rows)])}?label=species&drop=id")
    (width, colour) = Table.from_dict(source.table).columns
    assert colour.words == ("blue", "green", "pink", "red")
    assert width.median == np.median(train / 10)
    chosen = np.array([0, 1, 3, 8])
    fitted = source.fit(chosen)
    (width, colour) = Table.from_dict(fitted.table).columns
    assert width.median == np.median(train[chosen] / 10)
    assert colour.words == tuple(sorted({rows[train[n]][2] for n in chosen}))
    # All rows are still there; a word that was not learned from is all zeros.
    assert len(fitted.train().label) == len(train)
    np.testing.assert_array_equal(fitted.train().features[5, 1:], 0)
    np.testing.assert_array_equal(fitted.fit(chosen).train().features, fitted.train().features)


def test_a_file_of_its_own_is_the_test_whatever_its_columns_order(tmp_path):
    other = write(tmp_path, ["species,extra,colour,width", "virginica,z,red,0.5"], "test.csv")
    source = csv_source(f"{write(tmp_path)}?label=species&drop=id&test={other}")
    assert len(source.train().label) == 30
    test = source.test()
    assert test.label.tolist() == [2]
    np.testing.assert_allclose(test.features, [[0.5 - 1.45, 0, 1]], atol=1e-6)
    assert source.note == ""


def test_weights_come_with_the_training_rows(tmp_path):
    lines = [f"{HEADER},w", *(f"{line},{n / 2}" for n, line in enumerate(ROWS))]
    source = csv_source(f"{write(tmp_path, lines)}?label=species&drop=id&weight=w")
    train, _ = held_out()
    np.testing.assert_array_equal(source.train().weight, train / 2)
    assert source.train().weight.dtype == np.float32
    assert source.train().features.shape[1] == 3
    np.testing.assert_array_equal(source.train().take(np.array([4])).weight, train[4:5] / 2)


def test_names_may_be_any_text(tmp_path):
    lines = ["a&b,50 %,ÄÖ"]
    lines += [f"{n},{n},{'x,y'[::2][n % 2]}" for n in range(20)]
    path = write(tmp_path, lines, "my table?.csv", encoding="utf-8-sig")
    encoded = str(path).replace("?", "%3F")
    source = csv_source(f"{encoded}?label=ÄÖ&drop=a%26b")
    assert source.classes == ("x", "y")
    assert source.train().features.shape == (16, 1)


def test_classes_that_are_numbers_stand_in_their_order(tmp_path):
    lines = ["a,label", *(f"{n},{n % 11}" for n in range(44))]
    source = csv_source(f"{write(tmp_path, lines)}?label=label")
    assert source.classes == tuple(map(str, range(11)))


def test_empty_lines_and_spaces_do_not_count(tmp_path):
    lines = ["a, label ", "", *(f" {n} ,  {'xy'[n % 2]} " for n in range(20)), ""]
    source = csv_source(f"{write(tmp_path, lines)}?label=label")
    assert source.classes == ("x", "y")
    assert len(source.train().label) == 16


def changed(row, column, cell):
    """The table with one cell changed."""
    rows = [line.split(",") for line in ROWS]
    rows[row][column] = cell
    return [HEADER, *map(",".join, rows)]


def with_words(words):
    return [f"{HEADER},x", *(f"{row},{word}" for row, word in zip(ROWS, words, strict=True))]


GOOD = [HEADER, *ROWS]
MANY = [f"{HEADER},x", *(f"{ROWS[n % 30]},w{n % 101}" for n in range(400))]
WRONG = {
    "no label": (GOOD, "", r"name the column of the labels.*are id, width, colour, species"),
    "no column": (GOOD, "label=kind", r"there is no column 'kind'; .*id, width, colour, species"),
    "no dropped": (GOOD, "label=species&drop=id,size", r"there is no column 'size'"),
    "no weight": (GOOD, "label=species&weight=w", r"there is no column 'w'"),
    "twice": (GOOD, "label=species&drop=species", r"column 'species' is named twice"),
    "option": (GOOD, "labels=species", r"'labels=species' is none of label=…"),
    "two labels": (GOOD, "label=id&label=species", r"'label=species' is none of .* given once"),
    "nothing left": (GOOD, "label=species&drop=id,width,colour", r"no column is left"),
    "empty": ([], "label=a", r"x.csv: is empty"),
    "header alone": ([HEADER], "label=species", r"x.csv: has no row below"),
    "one class": (["a,b", "1,x", "2,x"], "label=b", r"has one class only, 'x'"),
    "single": ([*GOOD, "1,1,red,rara"], "label=species", r"1 of 4 have a single one \('rara'\)"),
    "ragged": ([*GOOD, "1,2"], "label=species", r"x.csv, line 32: has 2 cells, .* 4 columns"),
    "long": ([HEADER, "1,2,3,4,5"], "label=species", r"x.csv, line 2: has 5 cells"),
    "quote": ([HEADER, '1,2,"red,setosa'], "label=species", r"x.csv, line 2: unexpected end"),
    "no name": (["a,,b", "1,2,x"], "label=b", r"line 1: column 2 has no name"),
    "double": (["a,a,b", "1,2,x"], "label=b", r"line 1: two columns are called 'a'"),
    "word": (
        changed(7, 1, "wide"),
        "label=species",
        r"x.csv, line 9: column 'width' holds numbers, but here 'wide'.*drop=width",
    ),
    "infinite": (changed(7, 1, "inf"), "label=species", r"line 9: .*'inf'"),
    "no class": (changed(4, 3, ""), "label=species", r"line 6: column 'species' is empty"),
    "empty column": (with_words(["NA", ""] * 15), "label=species", r"column 'x' is empty; .*drop"),
    "names": (
        with_words([f"w{n}" for n in range(30)]),
        "label=species",
        r"column 'x' holds 30 different words in 30 rows.*drop=x",
    ),
    "over 100": (MANY, "label=species", r"column 'x' holds 101 different words in 400 rows"),
    "negative": (changed(2, 0, "-1"), "label=species&weight=id", r"line 4: column 'id': '-1'"),
    "weightless": (
        [f"{HEADER},x", *(f"{row},0" for row in ROWS)],
        "label=species&weight=x",
        r"column 'x': every weight is 0",
    ),
}


@pytest.mark.parametrize(("lines", "query", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_the_place(tmp_path, lines, query, message):
    path = write(tmp_path, lines) if lines else tmp_path / "x.csv"
    path.touch()
    with pytest.raises(UserError, match=message) as caught:
        csv_source(f"{path}?{query}")
    assert "\n" not in str(caught.value)


def test_a_few_missing_numbers_and_words_are_no_fault(tmp_path):
    lines = changed(7, 1, "NA")
    lines[5] = lines[5].replace("blue", "").replace("red", "")
    source = csv_source(f"{write(tmp_path, lines)}?label=species")
    assert np.isfinite(source.train().features).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["width,species", "1,setosa"], r"test.csv: has no column 'id', 'colour'"),
        ([HEADER], r"test.csv: has no row below"),
        ([HEADER, "1,wide,red,setosa"], r"test.csv, line 2: column 'width': 'wide' is no number"),
        ([HEADER, "1,2,red,tulip"], r"test.csv, line 2: 'tulip' is no class of .*x.csv"),
        ([HEADER, "1,2,red,"], r"test.csv, line 2: column 'species' is empty"),
    ],
)
def test_a_wrong_test_file_is_refused(tmp_path, lines, message):
    other = write(tmp_path, lines, "test.csv")
    with pytest.raises(UserError, match=message):
        csv_source(f"{write(tmp_path)}?label=species&test={other}").test()


def test_the_test_rows_are_not_read_before_they_are_asked_for(tmp_path):
    other = write(tmp_path, [HEADER, "1,wide,red,tulip"], "test.csv")
    csv_source(f"{write(tmp_path)}?label=species&test={other}").train()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"cannot be read \(No such file"), (b"a,b\n\xff\xfe,1\n", r"is no UTF-8 text")],
)
def test_a_file_that_is_no_text_or_none_is_refused(tmp_path, content, message):
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        csv_source(f"{path}?label=b")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory"):
        csv_source(f"{tmp_path}?label=b")
