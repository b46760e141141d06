"""A search's section: what is chosen, on which rows, and what is said and drawn of it."""

from dataclasses import replace

import numpy as np
import pytest

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.pareto_picture import pareto_picture
from dualdnn.evaluation.student_search import (
    ScoredRows,
    choice_in_words,
    search_section,
    search_table,
)

# By student: dense parameters, latency in ms, noise on validation rows, noise on test rows.
STUDENTS = {"wide": (900, 3.0, 0.02, 0.1), "narrow": (100, 1.02, 0.05, 2.0),
            "twin": (80, 1.0, 0.06, 2.1), "poor": (10, 0.5, 3.0, 0.01)}
MEASURED = {"teacher": {"params_dense": 9000, "latency_ms_at": {"500": 9.0}},
            **{name: {"params_dense": size, "latency_ms_at": {"500": ms}, "latency_ratio": 9 / ms}
               for name, (size, ms, _, _) in STUDENTS.items()}}


def part(number, seed, *, labels=None):
    """Rows of 40 users: the teacher knows the truth, students with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=1500)
    given = (rng.random(1500) < 1 / (1 + np.exp(-truth))).astype(np.uint8)
    logits = {"teacher": truth, **{name: truth + values[number] * rng.normal(size=1500)
                                   for name, values in STUDENTS.items()}}
    return ScoredRows(labels=given if labels is None else labels, logits=logits,
                      groups=rng.integers(0, 40, 1500))


def section(**changes):
    return search_section(MEASURED, **{"valid": part(2, 1), "test": part(3, 2), "distance": 0.01,
                                       "latency_tolerance": 0.05, "resamples": 200, **changes})


@pytest.fixture(scope="module")
def search():
    return section()


def test_the_choice_is_made_on_validation_rows(search):
    # On the test part `poor` is the best, the fastest and the smallest, and both others are bad.
    assert search["students"]["poor"]["test"]["auc"] > search["students"]["twin"]["test"]["auc"]
    assert search["chosen"] == "twin"
    assert [name for name, one in search["students"].items() if one["within"]] == [
        "twin", "narrow", "wide"]
    assert search["best"] == "wide"


def test_values_are_those_of_both_parts(search):
    valid, test = part(2, 1), part(3, 2)
    for tower, one in {"teacher": search["teacher"], **search["students"]}.items():
        assert one["valid"]["auc"] == pytest.approx(auc(valid.labels, valid.logits[tower]))
        assert one["test"]["auc"] == pytest.approx(auc(test.labels, test.logits[tower]))
    for one in search["students"].values():
        for name in ("valid", "test"):
            found = one[name]
            assert found["difference"] == pytest.approx(
                found["auc"] - search["teacher"][name]["auc"])
            assert found["low"] < found["difference"] < found["high"]
    assert search["least_auc"] == pytest.approx(search["teacher"]["valid"]["auc"] - 0.01)


def test_rows_of_weight_0_do_not_choose(search):
    valid = part(2, 1)
    weights = np.random.default_rng(5).integers(0, 3, len(valid.labels))
    kept = weights > 0
    weighted = section(valid=replace(valid, weights=weights))
    fewer = section(valid=ScoredRows(
        labels=valid.labels[kept], groups=valid.groups[kept], weights=weights[kept],
        logits={name: one[kept] for name, one in valid.logits.items()}))
    for name, one in weighted["students"].items():
        assert one["valid"] == pytest.approx(fewer["students"][name]["valid"])
        assert one["valid"]["auc"] != pytest.approx(search["students"][name]["valid"]["auc"])


def test_students_stand_from_the_fastest_to_the_slowest(search):
    assert list(search["students"]) == ["poor", "twin", "narrow", "wide"]
    assert [name for name, one in search["students"].items() if one["frontier"]] == [
        name for name in search["students"] if name in ("poor", "twin", "narrow", "wide")
        and all(search["students"][other]["valid"]["auc"] < search["students"][name]["valid"]["auc"]
                for other in list(search["students"])[:list(search["students"]).index(name)])]


def test_a_smaller_distance_takes_a_larger_student():
    assert section(distance=0.0005)["chosen"] == "wide"


def test_nobody_is_chosen_where_nobody_is_near():
    valid = part(2, 1)
    far = {name: valid.logits[name] + (name != "teacher") * 5 *
           np.random.default_rng(0).normal(size=1500) for name in valid.logits}
    found = section(valid=ScoredRows(labels=valid.labels, logits=far, groups=valid.groups))
    assert "chosen" not in found
    assert choice_in_words(found).startswith(
        f"no student is within 0.01 AUC of the teacher on the validation part; the nearest, "
        f"{found['best']}, is -0.")


def test_a_student_without_scores_is_left_out():
    valid, test = part(2, 1), part(3, 2)
    left = [ScoredRows(labels=one.labels, groups=one.groups,
                       logits={name: x for name, x in one.logits.items() if name != "twin"})
            for one in (valid, test)]
    found = section(valid=left[0], test=left[1])
    assert "twin" not in found["students"]
    assert found["chosen"] == "narrow"


def test_labels_of_one_kind_are_refused():
    with pytest.raises(DataError, match="labels of the validation part are all the same"):
        section(valid=part(2, 1, labels=np.ones(1500, np.uint8)))


def test_words_and_table_say_who_is_chosen_and_by_how_much(search):
    one = search["students"]["twin"]
    assert choice_in_words(search) == (
        "twin is the smallest student within 0.01 AUC of the teacher on the validation part: "
        f"{one['valid']['difference']:+.4f} there, {one['test']['difference']:+.4f} on the test "
        "part, 9.0x faster, 80 dense parameters")
    heading, rows = search_table(search)
    assert all(len(row) == len(heading) for row in rows)
    marks = {row[1]: row[0] for row in rows}
    assert (marks["twin"], marks["teacher"]) == (">", "")
    assert marks["poor"] == "o"


def test_the_picture_has_every_student_in_both_panels(search):
    figure = pareto_picture(search)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "validation part: what is chosen on", "test part: what came of it"]
    for axes, name in zip(figure.axes, ("valid", "test"), strict=True):
        assert axes.get_xscale() == "log"
        drawn = {(x, y) for line in axes.lines if line.get_linestyle() == "None"
                 for x, y in line.get_xydata().tolist()}
        assert {(one["latency_ms"], one[name]["auc"])
                for one in search["students"].values()} <= drawn
        assert search["teacher"][name]["auc"] in [line.get_ydata()[0] for line in axes.lines]
    named = [text.get_text() for text in figure.axes[0].texts]
    assert "twin" in named
    assert [text.get_text() for text in figure.axes[1].texts] == ["twin"]
    assert pareto_picture({}) is None
