"""A search as a user meets it: one pass, one picture, one exported student."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dualdnn.errors import DataError
from dualdnn.export.versions import read_manifest
from dualdnn.training.best_weights import BestWeights
from pipelines.exporting import export_sections, exported_student
from pipelines.settings import ExportSettings
from pipelines.student_search import SearchSettings, asked_export, check_parts, searched_section
from tests.tiny_run import open_tiny

GRID = ["experiment=student_search", "student_search.grid.hidden_units=[[6],[4]]",
        "student_search.grid.distillation.hints=null", "student_search.distance=0.4"]


@pytest.fixture(scope="module")
def searched(feed, forks):
    # The forks take every latency for equal, so parameters decide.
    done = forks.run(feed.folder, "train", *feed.given, *GRID)
    assert done["code"] == 0, done["said"]
    (path,) = (feed.folder / "outputs" / "train").glob("*/report.json")
    feed.run, feed.report, feed.out = path.parent, json.loads(path.read_text()), done["out"]
    return feed


def test_a_search_reports_and_draws_all_students(searched):
    search = searched.report["student_search"]
    assert set(search["students"]) == {"6", "6-fm", "4", "4-fm"} == set(searched.report["students"])
    for name, one in search["students"].items():
        assert one["test"]["auc"] == searched.report["students"][name]["auc"]
        assert {"auc", "difference", "low", "high"} <= set(one["valid"])
    sizes = {name: one["params_dense"] for name, one in search["students"].items()}
    # The FM vector widens the input by the 4 floats of a row.
    assert (sizes["6-fm"] - sizes["6"], sizes["4-fm"] - sizes["4"]) == (4 * 6, 4 * 4)
    assert (searched.run / "pareto.png").stat().st_size > 10_000
    page = (searched.run / "report.md").read_text()
    assert "## Student search" in page
    assert "Every row counts once, whatever its sample weight." in page
    assert "without sample weights" in " ".join(searched.out.split())
    assert "![AUC against latency](pareto.png)" in page


def test_the_chosen_student_is_the_one_that_is_exported(searched):
    assert searched.report["student_search"]["chosen"] == "4"
    assert searched.report["export"]["student"] == "4"
    assert "4 is the smallest student within 0.4 AUC of the teacher" in searched.out
    table = searched.out.partition("student search: ")[2].partition("4 is the smallest")[0]
    assert len(table.splitlines()) > 4
    assert max(map(len, table.splitlines())) <= 110


def test_another_student_is_exported_by_its_name(searched, forks):
    done = forks.run(searched.folder, "export", f"run={searched.run}", "export.name=again",
                     "export.student=6-fm")
    assert done["code"] == 0, done["said"]
    assert "(student 6-fm, version 1, parity" in done["out"]
    metrics = read_manifest(searched.folder / "exported_models" / "again" / "1")["metrics"]
    assert metrics["auc"] == searched.report["students"]["6-fm"]["auc"]


def test_a_search_counts_rows_as_other_metrics_do_and_leaves_out_who_became_nan(tmp_path,
                                                                                monkeypatch):
    examples, rng = open_tiny(tmp_path), np.random.default_rng(1)
    weights, rates = rng.uniform(0.1, 9, (2, len(examples.labels)))
    examples = replace(examples, weights=weights, sampling_rates=1 / (1 + rates))
    logits = {name: rng.normal(size=len(examples.labels)) for name in ("teacher", "fine", "broken")}

    def scores(model, best, examples, index):
        return {name: one[index] for name, one in logits.items()}

    monkeypatch.setattr("pipelines.student_search.score_with_best", scores)
    one = {"latency_ms_at": {"500": 1.0}, "latency_ratio": 1.0, "params_dense": 9}

    def searched(students, tolerance=0.1):
        return searched_section(
            SearchSettings(distance=0.4, latency_tolerance=tolerance), None, None, examples,
            {"teacher": one, "students": students},
            scores(None, None, examples, examples.split.test))

    found = searched({"fine": one, "broken": {**one, "status": "diverged"}})
    assert set(found["students"]) == {"fine"}
    for part in ("valid", "test"):
        index = getattr(examples.split, part)
        assert found["teacher"][part]["auc"] == pytest.approx(roc_auc_score(
            examples.labels[index], logits["teacher"][index],
            sample_weight=examples.stands_for(index)))
    # Latencies of 1.0 and 1.08 are equal under a tolerance of 0.1 alone: then parameters decide.
    slower = {**one, "latency_ms_at": {"500": 1.08}, "params_dense": 3}
    for tolerance, chosen in (0.05, "fine"), (0.1, "broken"):
        assert searched({"fine": one, "broken": slower}, tolerance)["chosen"] == chosen


@pytest.mark.parametrize(("part", "name"), [("valid", "validation"), ("test", "test")])
def test_a_part_of_one_label_is_refused_before_the_training(tmp_path, part, name):
    examples = open_tiny(tmp_path)
    check_parts(examples)
    labels = examples.labels.copy()
    labels[getattr(examples.split, part)] = 0
    with pytest.raises(DataError, match=f"all 88 rows of the {name} part have the label 0"):
        check_parts(replace(examples, labels=labels))


def test_who_is_exported():
    nobody, named = (ExportSettings(name=None, student=one) for one in (None, "wide"))
    assert asked_export(nobody, None) == nobody
    assert asked_export(nobody, {"chosen": "small"}).student == "small"
    assert asked_export(named, {"chosen": "small"}) == named
    assert asked_export(named, {"best": "small"}) == named
    assert asked_export(nobody, {"best": "small"}) is None


def test_a_student_that_became_nan_is_exported_by_its_name_alone():
    nobody, named = (ExportSettings(name=None, student=one) for one in (None, "wide"))
    best = BestWeights(dense={"wide": [], "small": []})
    wide = {"wide": {"status": "diverged"}}
    assert exported_student(nobody, {**wide, "small": {}}, best) == "small"
    assert exported_student(named, wide, best) == "wide"
    assert exported_student(named, wide, BestWeights()) is None
    with pytest.raises(DataError, match=r"every student of RUN became NaN .* export\.student=NAME"):
        export_sections(run="RUN", plan=None, model=None, best=best, examples=None, asked=nobody,
                        exported_models="", students=wide)
