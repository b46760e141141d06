"""A search as a user meets it: one pass, one picture, one exported student."""

import json

import pytest

from dualdnn.errors import DataError
from dualdnn.export.versions import read_manifest
from dualdnn.training.best_weights import BestWeights
from pipelines.exporting import export_sections, exported_student
from pipelines.settings import ExportSettings
from pipelines.student_search import asked_export

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
