"""Every figure: drawn for small and for unwieldy runs, nothing cut off, says what it is about."""

import itertools
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from story import RESULTS, make_evaluation, make_records

from moe.evaluate.present import boost_sentence
from moe.report import answer_figures, routing_figures
from moe.report.architecture_figure import architecture
from moe.report.clock_figure import accuracy_by_clock
from moe.report.curves import learning_curves
from moe.report.drawing import png, style
from moe.report.sheet import image_sheets

IMAGES = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3)).astype(np.uint8)
STAGES = ("baseline", "gate", "a first expert", "another one", "blend", "joint")
FIGURES = {
    "architecture": lambda e, r: architecture(e, RESULTS),
    "learning_curves": learning_curves,
    "clock": lambda e, r: accuracy_by_clock(e, RESULTS, r),
    "expert_by_class": lambda e, r: routing_figures.expert_by_class(e, "hard"),
    "load": lambda e, r: routing_figures.load(e, "hard", r),
    "gate_confusion": lambda e, r: routing_figures.gate_confusion(e),
    "gate_histograms": lambda e, r: routing_figures.gate_histograms(e),
    "images": lambda e, r: image_sheets(e, "hard", IMAGES)[0],
    "attribution": lambda e, r: answer_figures.attribution(e, "hard"),
    "calibration": lambda e, r: answer_figures.calibration(e, "hard"),
    "confusion": lambda e, r: answer_figures.confusion(e, "hard"),
}
SIZES = {
    "many experts": ({"experts": 20, "classes": 20, "long_names": True}, STAGES),
    "many classes": ({"experts": 3, "classes": 100, "named": False}, STAGES),
    "many classes in groups": ({"experts": 20, "classes": 100}, STAGES),
}


@pytest.fixture(scope="module", params=SIZES)
def story(request):
    size, stages = SIZES[request.param]
    return make_evaluation(**size), make_records(size.get("experts", 2), stages)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_whole(story, name):
    evaluation, records = story
    with style():
        picture = FIGURES[name](evaluation, records)
        if evaluation["gate"]["confusion"] is None and name == "gate_confusion":
            assert picture is None
            return
        _assert_nothing_is_cut_off(picture.figure)
    assert picture.name == name
    said = picture.figure.get_suptitle().replace("\n", " ")
    splits = {"learning_curves": "training and validation split", "clock": "validation split"}
    split = splits.get(name, "test split")
    assert said.startswith(picture.title)
    for part in (evaluation["dataset"], "joint", "hard routing", "seed 3", split):
        assert part in said
    assert len(picture.alt) > 20
    assert picture.reading.endswith(".")


def _assert_nothing_is_cut_off(figure) -> None:
    """Every text lies within the picture, and tick labels do not run into each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = figure.bbox.size
    drawn = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    drawn = set(drawn) - _labels_out_of_view(figure)
    for text in drawn:
        box = text.get_window_extent(renderer)
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{text.get_text()!r} is cut off: {box} of {width} x {height}"
    for axes in figure.axes:
        for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            labels = [label for label in axis.get_ticklabels() if label in drawn]
            if any(label.get_rotation() == 45 for label in labels):
                continue  # their boxes overlap, they do not
            boxes = [label.get_window_extent(renderer) for label in labels]
            ends = sorted((getattr(box, low), getattr(box, high)) for box in boxes)
            for (_, end), (start, _) in itertools.pairwise(ends):
                assert start >= end - 1, f"labels overlap on {axis}"


def _labels_out_of_view(figure) -> set[Text]:
    """Labels that matplotlib makes for ticks beyond the ends of an axis, and does not draw."""
    axles = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    return {
        label
        for axis in axles
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }


def test_what_does_not_apply_is_left_out():
    evaluation = make_evaluation(experts=1)
    under = evaluation["routings"]["hard"]
    assert routing_figures.gate_histograms(evaluation) is None
    assert learning_curves(evaluation, []) is None
    assert accuracy_by_clock(evaluation, RESULTS, []) is None
    older = [{"split": "validation", "stage": "joint", "accuracy": 0.5}]
    assert accuracy_by_clock(evaluation, RESULTS, older) is None
    assert image_sheets(evaluation, "hard", np.zeros((60, 4), np.float32)) == []
    for key in ("expert_by_class", "attribution", "extremes", "routing_metrics"):
        under[key] = None
    assert routing_figures.expert_by_class(evaluation, "hard") is None
    assert routing_figures.load(evaluation, "hard", []) is None
    assert answer_figures.attribution(evaluation, "hard") is None
    assert image_sheets(evaluation, "hard", IMAGES) == []
    evaluation["architecture"]["parts"] = {"gate": {"parameters": 1, "macs": 1}}
    assert architecture(evaluation, None) is None


def test_classes_of_a_group_stand_side_by_side_and_all_have_names():
    evaluation = make_evaluation(experts=20, classes=100, size=400)
    under = evaluation["routings"]["hard"]
    with style():
        picture = answer_figures.confusion(evaluation, "hard")
        by_class = routing_figures.expert_by_class(evaluation, "hard").figure.axes[0]
    (axes,) = picture.figure.axes
    # Class n is of group n % 20: every fifth part of the rows is a group.
    order = [n for group in range(20) for n in range(group, 100, 20)]
    names = [evaluation["classes"][n] for n in order]
    for found in (axes, by_class):
        assert [text.get_text() for text in found.get_yticklabels()] == names
    assert [text.get_text() for text in axes.get_xticklabels()] == evaluation["groups"]
    np.testing.assert_allclose(axes.get_xticks(), np.arange(20) * 5 + 2)
    count = np.array(under["confusion"])[np.ix_(order, order)]
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(axes.images[0].get_array(), share)
    assert len(axes.lines) == 2 * 19


def test_whose_errors_a_confusion_shows_depends_on_the_groups():
    with style():
        for change, said in (
            ({}, "may be the gate's"),
            ({"groups": ["expert_0", "expert_1"]}, "which these experts were not told"),
            ({"class_groups": None}, "Rows sum to 1."),
        ):
            reading = answer_figures.confusion(make_evaluation() | change, "hard").reading
            assert said in reading
            assert ("Lines" in reading) == ("class_groups" not in change)


def test_the_load_that_is_due_is_that_of_the_group():
    for named, label in ((True, "the share of its group"), (False, "an equal share")):
        evaluation = make_evaluation(named=named)
        with style():
            figure = routing_figures.load(evaluation, "hard", make_records()).figure
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert label in labels
        if named:
            (due,) = figure.axes[0].collections
            of_groups = np.sum(evaluation["gate"]["confusion"]["count"], axis=1) / 60
            np.testing.assert_allclose([s[0][0] for s in due.get_segments()], of_groups)


def test_combiners_look_at_the_example():
    evaluation = make_evaluation()
    with style():
        picture = architecture(evaluation, RESULTS)
        evaluation["architecture"]["blends"] = False
        plain = architecture(evaluation, RESULTS)
    assert "Each combiner looks at the example" in picture.alt
    assert "combiner looks" not in plain.alt
    # Into each of the two combiners: the expert, the baseline, and the example.
    ends = [line.get_xydata()[-1].round(2).tolist() for line in picture.figure.axes[0].lines]
    for height in (1.5, 2.5):
        assert [3.95, height + 0.2] in ends
        assert [3.95, height - 0.2] in ends


def test_numbers_in_words():
    evaluation = make_evaluation()
    under = evaluation["routings"]["hard"]
    under["boost"] = {"baseline_errors": 2_000, "mended": 700, "made": 50}
    sentence = boost_sentence(under["boost"])
    assert "mend 700 of the baseline's 2,000 errors and make 50 new ones: +650" in sentence
    with style():
        assert sentence in answer_figures.attribution(evaluation, "hard").reading
        drawing = architecture(evaluation, RESULTS)
        assert "1 of 2 runs for an example" in drawing.alt
        assert "For one example run 5.000 M parameters, 5.000 k MACs" in drawing.alt
        evaluation["architecture"]["experts_per_example"] = 2
        assert "Every expert runs" in architecture(evaluation, None).alt


def test_the_clock_shows_every_stage_and_the_test_at_its_end():
    records = make_records(stages=STAGES)
    with style():
        (axes,) = accuracy_by_clock(make_evaluation(), RESULTS, records).figure.axes
        picture = accuracy_by_clock(make_evaluation(), None, records[:2])
    *stages, test = axes.lines
    assert [line.get_xdata().tolist() for line in stages[:2]] == [[2.5, 5, 7.5], [10, 12.5, 15]]
    assert stages[0].get_ydata().tolist() == [0.2, 0.4, 0.6]
    assert (test.get_xdata().tolist(), test.get_ydata().tolist()) == ([50], [0.625])
    assert axes.get_xlabel().startswith("minutes")
    # Without an outcome, and soon over.
    assert picture.figure.axes[0].get_xlabel().startswith("seconds")
    assert len(picture.figure.axes[0].lines) == 1


def test_after_capacity_is_shown_where_something_was_dropped():
    evaluation, records = make_evaluation(), make_records()
    for dropped in (True, False):
        if not dropped:
            records = json.loads(json.dumps(records).replace("[0.1, 0.1]", "[0.5, 0.5]"))
        with style():
            figure = routing_figures.load(evaluation, "hard", records).figure
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("the same, after capacity" in labels) == dropped


def test_curves_run_through_all_stages():
    with style():
        figure = learning_curves(make_evaluation(), make_records(stages=STAGES)).figure
    accuracy, *_, load = figure.axes
    ends = [line.get_xdata()[-1] for line in accuracy.lines if line.get_linestyle() == "-"]
    assert sorted(set(ends)) == [30, 60, 90, 120, 150, 180]
    assert [text.get_text() for text in accuracy.texts] == list(STAGES)
    joint = [line for line in load.lines if line.get_linestyle() == "-"]
    assert all(min(line.get_xdata()) == 160 for line in joint)
    assert len(joint) == 2


def test_of_flips_is_spoken_where_they_are_drawn():
    for stages, routed in ((STAGES, True), (("baseline",), False)):
        with style():
            curves = learning_curves(make_evaluation(), make_records(stages=stages))
        assert len(curves.figure.axes) == (4 if routed else 2)
        assert ("Flips" in curves.reading) == routed


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_images_of_any_depth(depth):
    with style():
        (sheet,) = image_sheets(make_evaluation(), "hard", IMAGES[..., :1].repeat(depth, axis=3))
        assert png(sheet.figure)


def test_every_expert_with_an_image_has_a_row():
    evaluation = make_evaluation(experts=20, classes=20)
    extremes = evaluation["routings"]["hard"]["extremes"]
    full = next(found for found in extremes if found["least"])
    extremes[:] = [full] * 20
    extremes[3] = {"most": full["most"][:1], "least": []}
    extremes[4] = {"most": [], "least": []}
    with style():
        sheets = image_sheets(evaluation, "hard", IMAGES)
    assert [sheet.name for sheet in sheets] == ["images", "images_2", "images_3", "images_4"]
    said = " ".join(text.get_text() for s in sheets for text in s.figure.axes[0].texts)
    for e in range(20):
        kinds = [kind for kind in ("most", "least") if f"expert {e}:\n{kind} confident" in said]
        assert kinds == {3: ["most"], 4: []}.get(e, ["most", "least"]), e
    assert "Nothing is sent to expert 4." in sheets[0].alt
    assert "sheet 2 of 4" in sheets[1].figure.get_suptitle()
