import numpy as np
import pytest

from dualdnn.errors import ConfigError
from dualdnn.evaluation.comparison import Rows, System, compared
from dualdnn.evaluation.comparison_page import comparison_page
from dualdnn.evaluation.comparison_plots import interval_plot, mean_history
from dualdnn.evaluation.comparison_tables import (
    configuration_table,
    difference_table,
    flat_rows,
    interval_text,
    metric_table,
    p_text,
    slice_table,
)
from dualdnn.evaluation.metrics import auc, ece, grouped_auc, log_loss, sigmoid
from dualdnn.evaluation.paired import ComparedRows, holm, paired_difference
from dualdnn.evaluation.plots import figure_png
from dualdnn.evaluation.ranking_agreement import ranking_agreement

ROWS = 600


def scene(seeds=3, other_seeds=3):
    """Two systems: A with teacher, light and its control; B with teacher and a student of its own.

    A's students are worse than its teacher by noise, and B's teacher is worse still.
    """
    rng = np.random.default_rng(0)
    truth = rng.normal(size=ROWS)
    labels = (rng.random(ROWS) < sigmoid(truth)).astype(np.uint8)
    groups = rng.integers(0, 30, ROWS)

    def tower(noise, count):
        return (truth + noise * rng.normal(size=(count, ROWS))).astype(np.float32)

    rows = Rows(labels=labels, groups=groups, slices={
        "new_user": groups < 8, "known_user": groups >= 8, "one_class": labels == 1,
        "nobody": np.zeros(ROWS, bool)})
    return rows, [
        System(name="A", seeds=[*range(1, seeds + 1)], logits={
            "teacher": tower(0.2, seeds), "light": tower(0.4, seeds),
            "light.alone": tower(0.8, seeds)}),
        System(name="B", seeds=[*range(1, other_seeds + 1)], logits={
            "teacher": tower(2.0, other_seeds), "tiny": tower(2.5, other_seeds),
            "tiny.alone": tower(3.0, other_seeds)})]


@pytest.fixture(scope="module")
def both():
    rows, systems = scene()
    return rows, systems, compared(rows, systems, resamples=300)


def pairs(table):
    return [(row["system"], row["tower"], row["to_system"], row["to_tower"]) for row in table]


def test_metrics_are_means_and_spreads_over_seeds(both):
    rows, systems, found = both
    assert [(row["system"], row["tower"]) for row in found["metrics"]] == [
        ("A", "teacher"), ("A", "light"), ("A", "light.alone"),
        ("B", "teacher"), ("B", "tiny"), ("B", "tiny.alone")]
    logits = systems[0].logits["light"]
    (light,) = (row for row in found["metrics"] if row["tower"] == "light")
    for key, of in (("auc", auc), ("log_loss", log_loss),
                    ("grouped_auc", lambda y, z: grouped_auc(y, z, rows.groups)[0])):
        by_seed = [of(rows.labels, z) for z in logits]
        assert light[key]["mean"] == pytest.approx(np.mean(by_seed))
        assert light[key]["spread"] == pytest.approx(np.std(by_seed, ddof=1))
    agreement = [ranking_agreement(t, z, rows.groups)
                 for t, z in zip(systems[0].logits["teacher"], logits, strict=True)]
    for key in ("top_overlap", "ndcg"):
        assert light[key]["mean"] == pytest.approx(np.mean([one[key] for one in agreement]))
    assert "ndcg" not in found["metrics"][0]  # a teacher agrees with itself
    assert (found["rows"], found["groups"], found["resamples"]) == (ROWS, 30, 300)


def test_towers_that_are_not_compared_are_in_no_table(both):
    rows, systems, found = both
    students = compared(rows, systems, resamples=300, towers=["light", "tiny"])
    assert students["metrics"] == [row for row in found["metrics"]
                                   if row["tower"] in ("light", "tiny")]
    assert pairs(students["differences"]) == [("B", "tiny", "A", "light")]
    assert pairs(students["inside"]) == []
    assert {row["tower"] for row in students["slices"]} == {"tiny"}


def test_a_difference_is_that_of_the_paired_bootstrap(both):
    rows, systems, found = both
    compared_rows = ComparedRows(rows.labels, rows.groups, resamples=300)
    for row in found["differences"] + found["inside"]:
        by_name = {system.name: system for system in systems}
        first, second = (by_name[row[a]].logits[row[b]]
                         for a, b in (("system", "tower"), ("to_system", "to_tower")))
        for metric in ("auc", "log_loss"):
            expected = paired_difference(*(compared_rows.measured(z, metric)
                                           for z in (first, second)))
            assert row[metric]["value"] == pytest.approx(expected.value)
            assert (row[metric]["low"], row[metric]["high"]) == pytest.approx(expected.interval())
            assert row[metric]["p"] == pytest.approx(expected.p_value())


def test_p_values_are_corrected_over_the_table_metric_by_metric(both):
    for table in (both[2]["differences"], both[2]["inside"], both[2]["slices"]):
        for metric in ("auc", "log_loss"):
            corrected = holm({i: row[metric]["p"] for i, row in enumerate(table)})
            assert [row[metric]["p_holm"] for row in table] == pytest.approx(
                list(corrected.values()))
    assert any(row["auc"]["p_holm"] > row["auc"]["p"] for row in both[2]["slices"])


def test_parts_meet_their_counterparts_of_the_baseline(both):
    rows, systems, found = both
    assert pairs(found["differences"]) == [
        ("B", "teacher", "A", "teacher"), ("B", "tiny", "A", "light"),
        ("B", "tiny.alone", "A", "light.alone")]
    assert pairs(found["inside"]) == [
        ("A", "light", "A", "teacher"), ("A", "light", "A", "light.alone"),
        ("B", "tiny", "B", "teacher"), ("B", "tiny", "B", "tiny.alone")]
    other = compared(rows, systems, baseline="B", resamples=300)
    assert pairs(other["differences"])[0] == ("A", "teacher", "B", "teacher")
    assert other["differences"][0]["auc"]["value"] == pytest.approx(
        -found["differences"][0]["auc"]["value"])
    single = compared(rows, systems, baseline="A/light", resamples=300)
    assert pairs(single["differences"]) == [
        (system, tower, "A", "light") for system, tower in (
            ("A", "teacher"), ("A", "light.alone"), ("B", "teacher"), ("B", "tiny"),
            ("B", "tiny.alone"))]


def test_teacher_and_students_meet_baselines_but_not_slice_by_slice():
    rows, (a, _) = scene()
    with_one = System(name="A", seeds=a.seeds, logits={
        **a.logits, "baseline.fm": a.logits["light"] / 2})
    found = compared(rows, [with_one], resamples=100)
    assert pairs(found["inside"]) == [
        ("A", "teacher", "A", "baseline.fm"), ("A", "light", "A", "teacher"),
        ("A", "light", "A", "light.alone"), ("A", "light", "A", "baseline.fm")]
    assert {row["to_tower"] for row in found["slices"]} == {"teacher", "light.alone"}
    # Halved logits rank alike.
    assert found["inside"][3]["auc"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_part_without_counterpart_is_not_compared():
    rows, (a, b) = scene()
    teacher_alone = System(name="C", seeds=a.seeds, logits={"teacher": a.logits["teacher"]})
    found = compared(rows, [teacher_alone, b], resamples=100)
    assert pairs(found["differences"]) == [("B", "teacher", "C", "teacher")]


def test_equal_scores_are_no_question_to_correct_for():
    rows, (a, b) = scene()
    b = System(name="B", seeds=b.seeds, logits={**b.logits, "teacher": a.logits["teacher"]})
    found = compared(rows, [a, b], resamples=100)
    teacher, student, control = found["differences"]
    assert teacher["identical"]
    assert not {"auc", "log_loss"} & set(teacher)
    assert difference_table(found["differences"])[1][0] == [
        "B teacher − A teacher", "the same scores", "", "the same scores", ""]
    # Holm over two, not three.
    p = sorted([student["auc"]["p"], control["auc"]["p"]])
    assert min(student["auc"]["p_holm"], control["auc"]["p_holm"]) == min(1, 2 * p[0])
    assert {row["tower"] for row in found["slices"]} == {"tiny"}


def test_other_seeds_are_independent_samples():
    rows, systems = scene(other_seeds=2)
    found = compared(rows, systems, resamples=300)
    assert not any(row["same_seeds"] for row in found["differences"])
    assert all(row["same_seeds"] for row in found["inside"])
    compared_rows = ComparedRows(rows.labels, rows.groups, resamples=300)
    expected = paired_difference(
        *(compared_rows.measured(one.logits["teacher"], "auc") for one in systems[::-1]),
        same_seeds=False)
    assert found["differences"][0]["auc"]["error"] == pytest.approx(expected.error)


def test_slices_are_differences_on_their_rows_and_leave_out_what_has_one_class(both):
    rows, systems, found = both
    assert {row["slice"] for row in found["slices"]} == {"new_user", "known_user"}
    assert pairs(found["slices"]) == 2 * [("B", "teacher", "A", "teacher"),
                                          ("B", "tiny", "A", "light")]
    mask = rows.slices["new_user"]
    first, second = (np.mean([auc(rows.labels[mask], z[mask]) for z in system.logits["teacher"]])
                     for system in systems)
    row = found["slices"][0]
    assert (row["slice"], row["rows"]) == ("new_user", mask.sum())
    assert row["auc"]["value"] == pytest.approx(second - first)
    assert row["auc_of_tower"]["mean"] == pytest.approx(second)


def test_one_system_is_compared_with_itself():
    rows, systems = scene(seeds=1)
    found = compared(rows, systems[:1], resamples=100)
    assert found["differences"] == []
    assert len(found["inside"]) == 2
    assert "spread" not in found["metrics"][0]["auc"]
    assert pairs(found["slices"])[:2] == pairs(found["inside"])


def test_sampled_negatives_count_for_those_they_stand_for():
    rows, systems = scene()
    weights = np.where(rows.labels == 0, 4.0, 1.0)
    weighted = Rows(labels=rows.labels, groups=rows.groups, weights=weights)
    found = compared(weighted, systems, resamples=100)
    z = systems[0].logits["teacher"]
    assert found["metrics"][0]["log_loss"]["mean"] == pytest.approx(
        np.mean([log_loss(rows.labels, one, weights) for one in z]))
    assert found["metrics"][0]["auc"]["mean"] == pytest.approx(
        np.mean([auc(rows.labels, one) for one in z]))
    assert found["metrics"][0]["ece"]["mean"] == pytest.approx(
        np.mean([ece(rows.labels, sigmoid(one), weights)[0] for one in z]))
    assert found["weighted"]
    assert "each with its weight" in comparison_page(report(found), {})


def test_weights_of_rows_count_in_every_metric_and_difference():
    rows, systems = scene()
    weights = np.random.default_rng(4).exponential(size=len(rows.labels))
    found = compared(Rows(labels=rows.labels, groups=rows.groups, weights=weights), systems,
                     resamples=100)
    means = {}
    for system in systems:
        means[system.name] = np.mean([auc(rows.labels, one, weights)
                                      for one in system.logits["teacher"]])
    assert found["metrics"][0]["auc"]["mean"] == pytest.approx(means["A"])
    assert means["A"] != pytest.approx(np.mean([auc(rows.labels, one)
                                                for one in systems[0].logits["teacher"]]))
    row = next(one for one in found["differences"] if one["tower"] == "teacher")
    assert row["auc"]["value"] == pytest.approx(means["B"] - means["A"])
    assert found["metrics"][0]["grouped_auc"]["mean"] == pytest.approx(np.mean(
        [grouped_auc(rows.labels, one, rows.groups)[0] for one in systems[0].logits["teacher"]]))


def test_a_baseline_that_is_not_there_is_named():
    rows, systems = scene()
    with pytest.raises(ConfigError, match="one of the systems A, B, or SYSTEM/TOWER, got `C`"):
        compared(rows, systems, baseline="C")
    with pytest.raises(ConfigError, match=r"the towers of A are teacher, light, light\.alone"):
        compared(rows, systems, baseline="A/tiny")
    with pytest.raises(ConfigError, match="got ``"):
        compared(rows, systems, baseline="")


# --- tables, page and pictures ---


def report(comparison, **changes):
    return {"data": "a<b", "systems": {"A": {"seeds": [1, 2, 3], "runs": ["x/1", "x/2", "x/3"]},
                                       "B": {"seeds": [1, 2, 3], "runs": ["y/1", "y/2", "y/3"]}},
            "configuration": {"student.dropout": {"A": "0.1", "B": "<none>"}}, "notes": ["a note"],
            "comparison": comparison, "command": "python -m pipelines.compare", **changes}


def test_texts():
    found = {"value": 0.00123, "low": -0.0004, "high": 0.0028}
    assert interval_text(found) == "+0.0012 [-0.0004, +0.0028]"
    assert interval_text({"value": -0.5}) == "-0.5000"
    assert interval_text(None) == ""
    assert [p_text(p) for p in (None, 0.00001, 0.0421, 1.0)] == ["", "<0.0001", "0.042", "1"]


def test_tables_hold_a_row_for_everything(both):
    comparison = both[2]
    heading, rows = metric_table(comparison)
    assert heading[:3] == ["tower", "AUC", "log loss"]
    assert len(rows) == 6
    assert all(len(row) == len(heading) for row in rows)
    auc_of_light = comparison["metrics"][1]["auc"]
    assert rows[1][:2] == ["A light",
                           f"{auc_of_light['mean']:.4f} ± {auc_of_light['spread']:.4f}"]
    heading, rows = difference_table(comparison["differences"])
    assert rows[0][0] == "B teacher − A teacher"
    assert difference_table(comparison["inside"])[1][0][0] == "A: light − teacher"
    for narrow in (False, True):
        heading, rows = slice_table(comparison, narrow=narrow)
        assert len(rows) == 4
        assert all(len(row) == len(heading) for row in rows)
    assert rows[0][3].endswith("*") == (comparison["slices"][0]["auc"]["p_holm"] < 0.05)
    assert configuration_table({"k": {"B": "2"}}, ["A", "B"]) == (["setting", "A", "B"],
                                                                 [["k", "", "2"]])
    assert flat_rows([{"a": 1, "b": {"c": 2}}]) == [{"a": 1, "b.c": 2}]


def test_the_page_is_one_file_and_escapes_what_it_is_given(both):
    page = comparison_page(report(both[2]), {"differences": b"\x89PNG"})
    assert "a&lt;b: A, B side by side" in page
    assert "&lt;none&gt;" in page
    assert "src=\"data:image/png;base64,iVBORw==\"" in page
    assert page.count("src=") == 1
    assert "http" not in page
    for heading in ("Systems", "Where the configurations differ", "Slices", "a note",
                    "Differences to the baseline", "How to repeat it"):
        assert heading in page


def test_a_page_without_differences_has_no_section_of_them():
    rows, systems = scene(seeds=1)
    bare = Rows(labels=rows.labels)
    page = comparison_page(report(compared(bare, systems[:1], resamples=100), configuration={}), {})
    for heading in ("Where the configurations differ", "Slices", "Differences to the baseline"):
        assert heading not in page
    assert "100 draws of single rows" in page


def test_intervals_are_drawn_where_they_are_known(both):
    rows = both[2]["differences"]
    figure = interval_plot(rows, [row["tower"] for row in rows])
    assert figure_png(figure).startswith(b"\x89PNG")
    assert len(figure.axes) == 2
    for axes, metric in zip(figure.axes, ("auc", "log_loss"), strict=True):
        drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
        np.testing.assert_allclose(drawn[:len(rows)],
                                   [[row[metric]["low"], row[metric]["high"]] for row in rows])
    assert interval_plot([{"auc": {"value": 0.1}}], ["a"]) is None


def test_curves_are_means_over_the_steps_that_all_seeds_reached():
    def curve(*values, tower="teacher"):
        return [{"step": i + 1, "epoch": 0, "tower": tower, "part": "valid", "metric": "auc",
                 "value": value} for i, value in enumerate(values)]

    found = mean_history([curve(0.5, 0.6, 0.9), curve(0.7, 0.8)], "A ")
    assert [(row["tower"], row["step"]) for row in found] == [("A teacher", 1), ("A teacher", 2)]
    assert [row["value"] for row in found] == pytest.approx([0.6, 0.7])
    assert mean_history([curve(0.5, tower="light.alone")], "A ") == []
    assert mean_history([curve(0.5), curve(0.6)], "A ", ["light"]) == []


def test_csv_rows_are_flat(both):
    rows = flat_rows(both[2]["differences"])
    assert {"system", "auc.low", "auc.p_holm", "log_loss.value"} <= set(rows[0])
    assert not any(isinstance(value, dict) for row in rows for value in row.values())
