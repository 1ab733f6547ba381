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
from moe.report.curves import learning_curves
from moe.report.drawing import png, style
from moe.report.sheet import image_sheet

IMAGES = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3)).astype(np.uint8)
STAGES = ("baseline", "gate", "a first expert", "another one", "blend", "joint")
FIGURES = {
    "architecture": lambda e, r: architecture(e, RESULTS),
    "learning_curves": learning_curves,
    "expert_by_class": lambda e, r: routing_figures.expert_by_class(e, "hard"),
    "load": lambda e, r: routing_figures.load(e, "hard", r),
    "gate_confusion": lambda e, r: routing_figures.gate_confusion(e),
    "gate_histograms": lambda e, r: routing_figures.gate_histograms(e),
    "images": lambda e, r: image_sheet(e, "hard", IMAGES),
    "attribution": lambda e, r: answer_figures.attribution(e, "hard"),
    "calibration": lambda e, r: answer_figures.calibration(e, "hard"),
    "confusion": lambda e, r: answer_figures.confusion(e, "hard"),
}
SIZES = {
    "many experts": ({"experts": 20, "classes": 20, "long_names": True}, STAGES),
    "many classes": ({"experts": 3, "classes": 100, "named": False}, STAGES),
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
    split = "training and validation split" if name == "learning_curves" else "test split"
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
    assert image_sheet(evaluation, "hard", np.zeros((60, 4), np.float32)) is None
    for key in ("expert_by_class", "attribution", "extremes", "routing_metrics"):
        under[key] = None
    assert routing_figures.expert_by_class(evaluation, "hard") is None
    assert routing_figures.load(evaluation, "hard", []) is None
    assert answer_figures.attribution(evaluation, "hard") is None
    assert image_sheet(evaluation, "hard", IMAGES) is None
    evaluation["architecture"]["parts"] = {"gate": {"parameters": 1, "macs": 1}}
    assert architecture(evaluation, None) is None


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
        assert "For one example run 5 M parameters, 5 k MACs" in drawing.alt
        evaluation["architecture"]["experts_per_example"] = 2
        assert "Every expert runs" in architecture(evaluation, None).alt


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
        picture = image_sheet(make_evaluation(), "hard", IMAGES[..., :1].repeat(depth, axis=3))
        assert png(picture.figure)
