"""Images of any format and size, tables with and without a header; what cannot be read is named."""

import numpy as np
import pytest
import tensorflow as tf

from moe.data.table import Numbers, Table, Words
from moe.errors import UserError
from moe.evaluate.inputs import read_inputs

COLOUR = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
GREY = COLOUR[..., :1]
SEE_THROUGH = np.concatenate([COLOUR, GREY], axis=2)
GIF = "47494638396101000100800000ff0000ffffff2c00000000010001000002024401003b"  # one red pixel


def png(image):
    return tf.io.encode_png(image).numpy()


def in_grey(image):
    """ITU-R BT.601 luma."""
    return np.rint(image @ np.array([0.2989, 0.587, 0.114]))[..., np.newaxis]


@pytest.mark.parametrize(
    ("stored", "depth", "expected"),
    [
        (COLOUR, 3, COLOUR),
        (GREY, 1, GREY),
        (SEE_THROUGH, 3, COLOUR),
        (SEE_THROUGH[..., 2:], 1, COLOUR[..., 2:]),
        (GREY, 3, np.repeat(GREY, 3, axis=2)),
        (COLOUR, 1, in_grey(COLOUR)),
    ],
    ids=["colour", "grey", "colour, alpha", "grey, alpha", "grey to colour", "colour to grey"],
)
def test_an_image_gets_the_channels_of_the_run(tmp_path, stored, depth, expected):
    (tmp_path / "a.png").write_bytes(png(stored))
    inputs = read_inputs(str(tmp_path / "a.png"), (4, 6, depth))
    assert inputs.features.dtype == np.uint8
    np.testing.assert_allclose(inputs.features[0].astype(float), expected, atol=1)
    assert inputs.note == ""


def test_files_of_every_format_in_alphabetical_order(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "c.png").write_bytes(png(COLOUR))
    (tmp_path / "b.jpg").write_bytes(tf.io.encode_jpeg(COLOUR, quality=100).numpy())
    (tmp_path / "deep" / "a.gif").write_bytes(bytes.fromhex(GIF))
    inputs = read_inputs(str(tmp_path / "**" / "*"), (4, 6, 3))
    assert inputs.names == [str(tmp_path / name) for name in ("b.jpg", "c.png", "deep/a.gif")]
    np.testing.assert_allclose(inputs.features[0].astype(int), COLOUR, atol=12)
    np.testing.assert_array_equal(inputs.features[1], COLOUR)
    np.testing.assert_array_equal(inputs.features[2], np.broadcast_to([255, 0, 0], (4, 6, 3)))
    assert inputs.note == "1 of 3 images were resized to 4 x 6"


def test_shrinking_leaves_no_pixel_out(tmp_path):
    stripes = np.zeros((8, 8, 1), np.uint8)
    stripes[:, ::4] = 255  # a quarter of it
    (tmp_path / "a.png").write_bytes(png(stripes))
    (small,) = read_inputs(str(tmp_path / "a.png"), (2, 2, 1)).features
    assert small.min() > 30
    assert small.max() < 100


def test_a_name_may_look_like_a_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(png(COLOUR))
    assert len(read_inputs(str(tmp_path / "a[1].png"), (4, 6, 3)).names) == 1


@pytest.mark.parametrize("content", [b"", b"no image", png(COLOUR)[:-30]])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(png(COLOUR))
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(UserError, match=r"b\.png: is no image that can be read"):
        read_inputs(str(tmp_path / "*.png"), (4, 6, 3))


@pytest.mark.parametrize("pattern", ["*.png", "folder", "folder*", "missing.png"])
def test_nothing_to_read_is_an_error(tmp_path, pattern):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"--predict=.*: no file matches"):
        read_inputs(str(tmp_path / pattern), (4, 6, 3))


def test_images_have_one_or_three_channels(tmp_path):
    (tmp_path / "a.png").write_bytes(png(COLOUR))
    with pytest.raises(UserError, match="the run's images have 5 channels"):
        read_inputs(str(tmp_path / "a.png"), (4, 6, 5))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("1,2.5\n-3,4e2\n", (1, 2)),
        ("width,height\n1,2.5\n-3,4e2\n", (2, 3)),
        ('\ufeff"the width","a ""height"""\r\n\r\n1, 2.5\r\n" -3",4e2', (3, 4)),
    ],
    ids=["bare", "header", "quoted"],
)
def test_rows_with_and_without_a_header(tmp_path, text, lines):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    inputs = read_inputs(str(path), (2,))
    assert inputs.names == [f"{path}:{line}" for line in lines]
    np.testing.assert_array_equal(inputs.features, np.float32([[1, 2.5], [-3, 400]]))
    assert inputs.features.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.csv: has no row of numbers"),
        (b"width,height\n", r"a\.csv: has no row of numbers"),
        (b"1,2,3\n", r"a\.csv, line 1: has 3 columns, the run's rows have 2"),
        (b"1,2\n3\n", r"a\.csv, line 2: has 1 columns, the run's rows have 2"),
        (b"1,2\n3,\n", r"a\.csv, line 2, column 2: '' is no finite number"),
        (b"w,h\n3,high\n", r"a\.csv, line 2, column 2: 'high' is no finite number"),
        (b"1,nan\n", r"column 2: 'nan' is no finite number"),
        (b"inf,1\n", r"column 1: 'inf' is no finite number"),
        (b"1,1e39\n", r"column 2: '1e39' is no finite number"),
        (b"\xff\xfe1,2\n", r"a\.csv: cannot be read as a CSV table"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_inputs(str(tmp_path / "a.csv"), (2,))
    assert "\n" not in str(caught.value)


TABLE = Table((Numbers("age", 30.0), Words("kind", ("cat", "dog"))))


def test_raw_rows_are_prepared_as_in_training_whatever_else_stands_beside_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("kind, label, age\ndog,?,40\n\n,,\nmouse,x,NA\n")
    inputs = read_inputs(str(path), (3,), TABLE)
    assert inputs.names == [f"{path}:{line}" for line in (2, 4, 5)]
    np.testing.assert_array_equal(inputs.features, [[10, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert inputs.features.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv: its first line must name the columns; no column 'age'"),
        ("age,kin\n1,dog\n", r"a\.csv: its first line .*; no column 'kind'"),
        ("age,kind,age\n1,dog,2\n", r"a\.csv: its first line .*; more than one column 'age'"),
        ("age,kind\n", r"a\.csv: has no row below the line that names the columns"),
        ("age,kind\n1\n", r"a\.csv, line 2: has 1 cells, its header 2"),
        ("age,kind\n1,dog\nold,dog\n", r"a\.csv, line 3, column 'age': 'old' is no number"),
    ],
)
def test_a_raw_table_that_does_not_fit_is_named(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_inputs(str(tmp_path / "a.csv"), (3,), TABLE)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_is_left_out_and_named_where_asked_for(tmp_path, capsys):
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes(png(COLOUR))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(
        UserError, match=r"b\.png: is no image that can be read .*--skip_unreadable"
    ):
        read_inputs(str(tmp_path / "*"), (4, 6, 3))
    inputs = read_inputs(str(tmp_path / "*"), (4, 6, 3), skip_unreadable=True)
    assert inputs.names == [str(tmp_path / "a.png"), str(tmp_path / "c.png")]
    np.testing.assert_array_equal(inputs.features, [COLOUR] * 2)
    told = f"1 of 3 files are skipped, no images: {tmp_path / 'b.png'}."
    assert told in capsys.readouterr().err
    with pytest.raises(UserError, match=r"none of .*b\.png is an image"):
        read_inputs(str(tmp_path / "b.*"), (4, 6, 3), skip_unreadable=True)
    with pytest.raises(UserError, match="--skip_unreadable: is for images"):
        read_inputs(str(tmp_path / "*"), (4,), skip_unreadable=True)
