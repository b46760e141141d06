import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dualdnn.errors import DataError
from dualdnn.evaluation.plots import (
    distillation_losses,
    importance_bars,
    reliability_diagram,
    save_figure,
    tower_looks,
    training_curves,
)


def rows(tower, part, metric, values, *, every=10):
    return [
        {"step": every * (i + 1), "epoch": i, "tower": tower, "part": part, "metric": metric,
         "value": value}
        for i, value in enumerate(values)
    ]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


HISTORY = [
    *rows("light", "train", "label_loss", [0.7, 0.6]),
    *rows("light", "train", "soft_label_loss", [2.0, 1.0]),
    *rows("light", "train", "hint_loss", [0.5, 0.4]),
    *rows("teacher", "train", "label_loss", [0.6, 0.5]),
    *rows("teacher", "train", "loss", [0.9, 0.8]),
    *rows("teacher", "valid", "log_loss", [0.55, 0.5]),
    *rows("teacher", "valid", "auc", [0.7, 0.75]),
    *rows("light", "valid", "auc", [0.69, 0.74]),
]


def test_training_curves_have_a_panel_per_metric_and_a_legend_in_report_order():
    figure = training_curves(HISTORY, towers=["teacher", "light"])
    assert titles(figure) == ["training: label loss", "validation: log loss", "validation: AUC"]
    assert legend(figure) == ["teacher", "light"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[10, 0.55], [20, 0.5]]


def test_training_curves_without_a_validation_part():
    history = [row for row in HISTORY if row["part"] == "train"]
    assert titles(training_curves(history)) == ["training: label loss"]


def test_training_curves_fall_back_to_the_whole_loss():
    history = rows("teacher", "train", "loss", [0.9, 0.8])
    assert titles(training_curves(history)) == ["training: loss"]


def test_a_tower_that_diverged_is_drawn_up_to_there():
    history = rows("light", "train", "loss", [0.9, 0.8, float("nan"), float("inf"), None])
    (line,) = training_curves(history).axes[0].lines
    assert line.get_ydata().tolist() == [0.9, 0.8]


def test_one_point_and_a_constant_curve_can_be_drawn(tmp_path):
    history = [*rows("a", "train", "loss", [0.5]), *rows("b", "valid", "auc", [0.0, 0.0])]
    save_figure(training_curves(history), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_step_stands_once_on_the_axis():
    figure = training_curves(rows("a", "train", "loss", [0.5]))
    FigureCanvasAgg(figure).draw()
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown
    assert len(shown) == len(set(shown))


def test_a_long_curve_is_drawn_with_its_running_mean():
    noise = np.random.default_rng(0).normal(size=1000)
    raw, mean = training_curves(rows("t", "train", "loss", noise)).axes[0].lines
    assert raw.get_ydata().tolist() == noise.tolist()
    assert np.std(mean.get_ydata()) < np.std(noise) / 2
    # half a window of 12 points on each side
    assert mean.get_ydata()[500] == pytest.approx(noise[488:513].mean())
    assert mean.get_ydata()[0] == pytest.approx(noise[:13].mean())


def test_the_running_mean_of_a_constant_is_the_constant():
    _, mean = training_curves(rows("t", "train", "loss", [0.25] * 100)).axes[0].lines
    assert mean.get_ydata() == pytest.approx(np.full(100, 0.25))


def test_nothing_to_draw_is_none():
    assert training_curves([]) is None
    assert distillation_losses([]) is None
    assert distillation_losses(rows("teacher", "train", "label_loss", [0.5])) is None
    assert reliability_diagram({}) is None
    assert reliability_diagram({"teacher": ([], [], None)}) is None


def test_distillation_losses_show_distilled_towers_and_the_losses_they_have():
    history = [*HISTORY, *rows("shared_label_only", "train", "label_loss", [0.7, 0.6])]
    figure = distillation_losses(history, towers=["teacher", "light"])
    assert titles(figure) == ["label loss", "soft-label loss", "hint loss"]
    assert legend(figure) == ["light"]
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 1]


def test_a_tower_has_one_colour_in_every_figure():
    towers = ["teacher", "light", "tiny"]
    looks = tower_looks(towers)
    curves = training_curves(HISTORY, towers=towers)
    losses = distillation_losses(HISTORY, towers=towers)
    diagram = reliability_diagram({"light": ([0, 1], [0.2, 0.7], None)}, towers=towers)
    assert curves.axes[2].lines[1].get_color() == looks["light"][0]
    assert losses.axes[0].lines[0].get_color() == looks["light"][0]
    assert diagram.axes[0].lines[1].get_color() == looks["light"][0]


def test_twenty_towers_all_look_different():
    looks = tower_looks(["teacher", *(f"student{i}" for i in range(20))])
    assert len(set(looks.values())) == 21


def test_reliability_diagram_draws_the_bins_of_ece():
    labels, probabilities = [1, 0, 1, 1], [0.2, 0.1, 0.7, 0.8]
    figure = reliability_diagram({"teacher": (labels, probabilities, None)}, bins=2)
    top, bottom = figure.axes
    assert top.lines[1].get_xydata().ravel() == pytest.approx([0.15, 0.5, 0.75, 1.0])
    assert [text.get_text() for text in top.get_legend().get_texts()] == [
        "perfect calibration", "teacher  (ECE 0.3000)"
    ]
    assert bottom.patches[0].get_data().values.sum() == pytest.approx(1.0)


def test_rows_weigh_in_the_reliability_diagram():
    """A row of weight 3 is drawn as that row three times."""
    labels, probabilities, weights = [1, 0, 1, 1], [0.2, 0.1, 0.7, 0.8], [1, 3, 0, 2]
    times = [np.repeat(values, weights) for values in (labels, probabilities)]
    drawn = [reliability_diagram({"t": (*rows, weight)}, bins=1).axes for rows, weight in (
        ((labels, probabilities), weights), (times, None))]
    for top, _ in drawn:
        assert top.lines[1].get_xydata().ravel() == pytest.approx([0.35, 0.5])
    shares = [bottom.patches[0].get_data().values for _, bottom in drawn]
    assert shares[0] == pytest.approx(shares[1])


def test_every_row_is_in_the_histogram_even_above_the_last_bin():
    # bin means stay below 0.05, single predictions do not
    probabilities = np.r_[np.full(995, 0.01), np.full(5, 0.9)]
    figure = reliability_diagram({"t": (np.zeros(1000), probabilities, None)}, bins=1)
    assert figure.axes[1].patches[0].get_data().values.sum() == pytest.approx(1.0)


def test_predictions_of_zero_can_be_drawn(tmp_path):
    save_figure(reliability_diagram({"t": ([0, 0], [0.0, 0.0], None)}), tmp_path / "r.png")
    assert (tmp_path / "r.png").exists()


def test_reliability_diagram_refuses_logits():
    with pytest.raises(DataError, match=r"probabilities must lie in \[0, 1\]"):
        reliability_diagram({"t": ([0, 1], [-3.0, 3.0], None)})


def test_importance_has_a_bar_of_every_tower_that_reads_the_field():
    importance = {"teacher": {"item": {"auc_loss": 0.1, "error": 0.01},
                              "dwell": {"auc_loss": 0.05, "error": 0.02}},
                  "light": {"item": {"auc_loss": 0.2, "error": 0.01}}}
    (axes,) = importance_bars(importance).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["item", "dwell"]
    assert sorted(bar.get_width() for bar in axes.patches) == [0.05, 0.1, 0.2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["teacher", "light"]
    assert importance_bars({}) is None


def test_a_saved_figure_is_a_png_and_leaves_no_temporary_file(tmp_path):
    save_figure(training_curves(HISTORY), tmp_path / "sub" / "curves.png")
    assert (tmp_path / "sub" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["curves.png"]
