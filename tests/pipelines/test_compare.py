"""Finished runs side by side, as a user meets it: runs of a small feed."""

import html.parser
import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.predictions import read_predictions, write_predictions
from dualdnn.evaluation.ranking_agreement import ranking_agreement
from pipelines.compare import main
from pipelines.compared_runs import (
    differing_settings,
    grouped_runs,
    open_run,
    scored_systems,
)
from pipelines.entry import start
from tests.pipelines.conftest import make_feed
from tests.pipelines.test_jobs import reports

# mlflow reads its own database in a way that its database library has since deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning")


def as_another_seed(run, seed, to):
    """A copy of a run as if another seed had trained it: other scores, the same for each seed."""
    shutil.copytree(run, to)
    settings = yaml.safe_load((to / "config.yaml").read_text())
    (to / "config.yaml").write_text(yaml.safe_dump({**settings, "seed": seed}))
    kept = read_predictions(run / "predictions.parquet")
    rng = np.random.default_rng(seed)
    logits = {tower: z + 0.3 * rng.normal(size=len(z)).astype(np.float32)
              for tower, z in kept.logits.items()}
    write_predictions(to / "predictions.parquet", replace(kept, logits=logits))
    return to


def with_settings(run, to, **data):
    """A copy of a run as if its `data` had said something else."""
    shutil.copytree(run, to)
    settings = yaml.safe_load((to / "config.yaml").read_text())
    (to / "config.yaml").write_text(yaml.safe_dump(
        {**settings, "data": {**settings["data"], **data}}))
    return to


def with_report(run, to, **sections):
    """A copy of a run as if its report had said something else."""
    shutil.copytree(run, to)
    report = json.loads((to / "report.json").read_text())
    (to / "report.json").write_text(json.dumps({**report, **sections}))
    return to


@pytest.fixture(scope="module")
def feed(tmp_path_factory, forks):
    """A feed with two trained runs, soft labels at temperature 1 and 4, and each as seed 2."""
    feed = make_feed(tmp_path_factory.mktemp("feed"))
    done = forks.run(
        feed.folder, "train", "-m", *feed.given, "training.epochs=1", "controls=[alone]",
        "distillation=soft_labels", "distillation.temperature=1.0,4.0")
    assert (done["code"], done["err"]) == (0, ""), done["out"]
    feed.reports = [report for _, report in reports(feed.folder)]
    feed.trained = [folder for folder, _ in reports(feed.folder)]
    outputs = feed.folder / "outputs" / "train"
    feed.runs = [*feed.trained, *(as_another_seed(one, 2, outputs / f"copy-{i}")
                                  for i, one in enumerate(feed.trained))]
    return feed


@pytest.fixture
def job(feed, monkeypatch, capsys):
    """Returns a function: the job in this process; its code, stdout and lines of stderr."""
    monkeypatch.chdir(feed.folder)

    def job(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        with pytest.raises(SystemExit) as exit:
            start("compare", main)
        said = capsys.readouterr()
        return exit.value.code, said.out, said.err.splitlines()

    return job


def newest(feed, name):
    return reports(feed.folder, name)[-1]


class Links(html.parser.HTMLParser):
    """What a page loads or leads to."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]


def test_a_run_keeps_the_scores_that_its_report_measures(feed):
    for folder, report in zip(feed.trained, feed.reports, strict=True):
        kept = read_predictions(folder / "predictions.parquet")
        assert list(kept.logits) == ["teacher", "mini", "mini.alone"]
        for tower, numbers in (("teacher", report["teacher"]), ("mini", report["students"]["mini"]),
                               ("mini.alone", report["students"]["mini"]["control"]["alone"])):
            assert auc(kept.labels, kept.logits[tower]) == numbers["auc"]
        assert report["students"]["mini"]["ranking_agreement"] == ranking_agreement(
            kept.logits["teacher"], kept.logits["mini"], kept.groups)
        assert kept.slices["new_user"].sum() == report["teacher"]["slices"]["new_user"]["rows"]
        history = pd.read_parquet(folder / "history.parquet")
        last = history[(history.tower == "teacher") & (history.part == "valid")].iloc[-1]
        assert last.metric in ("auc", "log_loss")
    page = (feed.trained[0] / "report.md").read_text()
    assert "## Ranking agreement" in page
    assert "predictions.parquet" in page


def test_seeds_of_one_configuration_are_one_system(feed, job):
    code, out, err = job("runs=[outputs/train/*]")
    assert (code, err) == (0, []), out
    folder, report = newest(feed, "compare")
    assert {name: one["seeds"] for name, one in report["systems"].items()} == {
        "A": [1, 2], "B": [1, 2]}
    assert report["systems"]["B"]["runs"] == [str(feed.runs[1]), str(feed.runs[3])]
    # Nothing but what differs.
    assert {key: set(values) for key, values in report["configuration"].items()} == {
        "distillation.temperature": {"A", "B"}}
    assert report["configuration"]["distillation.temperature"] == {"A": "1.0", "B": "4.0"}
    metrics = {(row["system"], row["tower"]): row for row in report["comparison"]["metrics"]}
    kept = [read_predictions(one / "predictions.parquet") for one in feed.runs]
    aucs = [auc(one.labels, one.logits["mini"]) for one in kept]
    assert metrics["A", "mini"]["auc"]["mean"] == pytest.approx((aucs[0] + aucs[2]) / 2)
    assert metrics["B", "mini"]["auc"]["spread"] == pytest.approx(np.std(aucs[1::2], ddof=1))
    (student,) = (row for row in report["comparison"]["differences"] if row["tower"] == "mini")
    assert student["auc"]["value"] == pytest.approx((aucs[1] + aucs[3] - aucs[0] - aucs[2]) / 2)
    assert student["auc"]["low"] <= student["auc"]["value"] <= student["auc"]["high"]
    # No student reaches the teacher, nor the control: those two are the same to the bit.
    for tower in ("teacher", "mini.alone"):
        (row,) = (row for row in report["comparison"]["differences"] if row["tower"] == tower)
        assert row["identical"]
        assert "log_loss" not in row
    assert "B teacher − A teacher the same scores" in " ".join(out.split())
    assert student["auc"]["p"] == student["auc"]["p_holm"]  # so there is one question alone
    assert "my_feed: 44 test rows, 1,000 draws of " in out
    assert "B mini − A mini" in out
    assert "distillation.temperature" in out
    assert "2 seeds say little of how seeds differ" in out
    assert f"report    {folder / 'report.html'}" in out


def test_the_page_stands_alone_and_the_tables_hold_the_numbers(feed, job):
    assert job("runs=[outputs/train/*]", "comparison.names=[warm,hot]",
               "comparison.resamples=200")[0] == 0
    folder, report = newest(feed, "compare")
    page = (folder / "report.html").read_text()
    links = Links(page).found
    assert len(links) == 4  # two of differences, calibration, curves
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "hot mini − warm mini" in page
    differences = pd.read_csv(folder / "differences.csv")
    rows = report["comparison"]["differences"] + report["comparison"]["inside"]
    known = [one.get("auc", {}).get("value", np.nan) for one in rows]
    np.testing.assert_allclose(differences["auc.value"], known)
    assert differences["identical"].sum() == np.isnan(known).sum() == 2
    assert differences["table"].unique().tolist() == ["differences", "inside"]
    assert set(pd.read_csv(folder / "configuration.csv").columns) == {"setting", "warm", "hot"}
    assert len(pd.read_csv(folder / "metrics.csv")) == 6
    assert pd.read_csv(folder / "slices.csv")["slice"].nunique() >= 1
    assert not list(folder.glob(".tmp*"))


def test_a_baseline_and_towers_are_chosen(feed, job):
    code, _, err = job("runs=[outputs/train/*]", "baseline=B/mini",
                       "comparison.towers=[teacher,mini]", "comparison.resamples=100")
    assert (code, err) == (0, [])
    comparison = newest(feed, "compare")[1]["comparison"]
    assert comparison["resamples"] == 100
    assert [(row["system"], row["tower"], row["to_system"], row["to_tower"])
            for row in comparison["differences"]] == [
        (system, tower, "B", "mini") for system, tower in (
            ("A", "teacher"), ("A", "mini"), ("B", "teacher"))]
    assert {row["tower"] for row in comparison["metrics"]} == {"teacher", "mini"}


def test_towers_that_are_left_out_are_in_no_table_and_no_picture(feed, job, monkeypatch, tmp_path):
    drawn = {}
    files = "pipelines.compare_files"
    monkeypatch.setattr(f"{files}.curves_plot", lambda history: drawn.update(
        curves={row["tower"] for row in history}))
    monkeypatch.setattr(f"{files}.calibration_plot", lambda predictions: drawn.update(
        calibration=set(predictions)))
    monkeypatch.setattr(f"{files}._MOST_LINES", 1)
    assert job("runs=[outputs/train/*]", "comparison.towers=[mini]",
               "comparison.resamples=100")[0] == 0
    report = newest(feed, "compare")[1]
    assert [(row["system"], row["tower"]) for row in report["comparison"]["metrics"]] == [
        ("A", "mini"), ("B", "mini")]
    for i, row in enumerate(report["comparison"]["metrics"]):
        # The teacher is not shown, and students are measured against it all the same.
        kept = [read_predictions(one / "predictions.parquet") for one in feed.runs[i::2]]
        assert row["ndcg"]["mean"] == pytest.approx(np.mean([
            ranking_agreement(one.logits["teacher"], one.logits["mini"], one.groups)["ndcg"]
            for one in kept]))
    assert report["comparison"]["inside"] == []
    assert drawn == {"curves": {"A mini", "B mini"}, "calibration": {"A mini"}}
    assert ("The picture of calibration has room for 1 towers, and is without B mini. Choose "
            "others by comparison.towers.") in report["notes"]
    assert "is without B mini" in (newest(feed, "compare")[0] / "report.html").read_text()
    # A tower that only one of the systems has.
    one = with_report(feed.runs[1], tmp_path / "one", towers=["teacher", "light"])
    code, out, err = job(f"runs=[{feed.runs[0]},{one}]", "comparison.towers=[light]")
    assert (code, out) == (2, "")
    assert err == [
        "error: comparison.towers leaves nothing of A, whose towers are teacher, mini, mini.alone. "
        f"Name one of them too, or leave out the runs of A, the first {feed.runs[0]}."]


def test_a_baseline_may_be_a_number(feed, job):
    code, _, err = job("runs=[outputs/train/*]", "comparison.names=['1','0']", "baseline=0",
                       "comparison.towers=[mini]", "comparison.resamples=100")
    assert (code, err) == (0, [])
    (row,) = newest(feed, "compare")[1]["comparison"]["differences"]
    assert (row["system"], row["to_system"]) == ("1", "0")


def test_an_mlflow_run_and_an_evaluation_are_runs_as_well(feed, job, tmp_path):
    # As evaluate leaves it, of a run whose own scores are gone; it has a slice more.
    folder = tmp_path / "evaluated"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({
        "job": "evaluate", "status": "done", "run": str(feed.runs[1]),
        "towers": ["teacher", "mini", "mini.alone"]}))
    kept = read_predictions(feed.runs[1] / "predictions.parquet")
    write_predictions(folder / "predictions.parquet", replace(
        kept, slices={**kept.slices, "tags=t1": kept.labels == kept.labels}))
    one = feed.reports[0]["mlflow_run"]
    code, _, err = job(f"runs=[{one},{folder}]", "comparison.resamples=100")
    assert (code, err) == (0, [])
    report = newest(feed, "compare")[1]
    assert [one["runs"] for one in report["systems"].values()] == [[str(feed.runs[0])],
                                                                   [str(folder)]]
    assert any("With one seed" in note for note in report["notes"])
    assert [note for note in report["notes"] if "slices" in note] == [
        f"{feed.runs[0]} has no slices of tags, which are left out. Make them with `python -m "
        f"pipelines.evaluate run={feed.runs[0]} 'evaluation.slices=[tags]'`, and compare the "
        "folder that this makes."]


def test_runs_that_weigh_rows_differently_are_compared_by_the_first_ones_weights(feed, job,
                                                                                 tmp_path):
    kept = read_predictions(feed.runs[1] / "predictions.parquet")
    weights = np.linspace(0.1, 3, len(kept.labels)).astype(np.float32)
    weighted = tmp_path / "weighted"
    shutil.copytree(feed.runs[1], weighted)
    write_predictions(weighted / "predictions.parquet", replace(kept, weights=weights))
    plain = feed.runs[0]
    for order, expected in (((weighted, plain), weights), ((plain, weighted), None)):
        assert job(f"runs=[{order[0]},{order[1]}]", "comparison.resamples=100")[0] == 0
        report = newest(feed, "compare")[1]
        assert any(f"weights of {order[0]}" in note for note in report["notes"])
        assert report["comparison"]["weighted"] == (expected is not None)
        for row in report["comparison"]["metrics"]:
            one = read_predictions(order[row["system"] == "B"] / "predictions.parquet")
            assert row["auc"]["mean"] == pytest.approx(
                auc(one.labels, one.logits[row["tower"]], expected))


def test_runs_that_group_rows_differently_are_compared_by_the_first_groups(feed, job, tmp_path):
    kept = read_predictions(feed.runs[1] / "predictions.parquet")
    renumbered = kept.groups.max() - kept.groups
    by_session = np.arange(len(kept.labels), dtype=np.int32) // 4

    def grouped(name, groups, column):
        with_settings(feed.runs[1], tmp_path / name, group=column)
        write_predictions(tmp_path / name / "predictions.parquet", replace(kept, groups=groups))
        return tmp_path / name

    user, none = feed.runs[0], grouped("none", None, None)
    session = grouped("session", by_session, "session")
    users = len(np.unique(kept.groups))
    for order, by, groups, column in (
            ((user, grouped("renumbered", renumbered, "user")), None, users, "user"),
            ((user, session), user, users, "user"), ((session, user), session, 11, "session"),
            ((none, session), session, 11, "session")):
        code, out, _ = job(f"runs=[{order[0]},{order[1]}]", "comparison.resamples=100")
        assert code == 0
        report = newest(feed, "compare")[1]
        said = [note for note in report["notes"] if "group the test rows differently" in note]
        assert len(said) == (by is not None)
        assert all(f"by the groups of {by} ({column})" in note for note in said)
        assert (report["comparison"]["groups"], report["group"]) == (groups, column)
        assert f"100 draws of {groups} groups ({column})" in out


def test_runs_of_other_test_rows_are_refused_by_name(feed, job, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(feed.runs[0], other)
    path = other / "predictions.parquet"
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({"dualdnn.test_rows": "0" * 64}), path)
    code, out, err = job(f"runs=[{feed.runs[1]},{other}]")
    assert (code, out) == (1, "")
    assert len(err) == 1
    assert err[0].startswith(f"error: runs must be tested on the same rows, but {feed.runs[1]} (44 "
                             "rows from 2024-01-04 to 2024-01-04, fingerprint ")
    assert f"{other} (44 rows" in err[0]
    assert "window.seed=1" in err[0]
    assert newest(feed, "compare")[1]["status"] == "failed"


def test_every_mistake_is_named_before_scores_are_read(feed, job, tmp_path):
    before = len(reports(feed.folder, "compare"))
    code, out, err = job("runs=[nowhere,outputs/none*]", "comparison.resamples=10")
    assert (code, out) == (2, "")
    assert len(err) == 1
    for words in ("3 mistakes", "run=nowhere is neither a folder nor a dualdnn run in mlflow",
                  "no finished run with test rows matches outputs/none*",
                  "comparison.resamples must be >= 100"):
        assert words in err[0]
    for arguments, words in (
        (["runs=[]"], "runs must be a list of run folders or mlflow run ids"),
        (["runs=outputs"], "runs must be a list of run folders or mlflow run ids"),
        (["runs=[outputs/train/*]", "baseline=C"], "one of the systems A, B, or SYSTEM/TOWER"),
        (["runs=[outputs/train/*]", "baseline=A/tiny"],
         "the towers of A are teacher, mini, mini.alone"),
        (["runs=[outputs/train/*]", "comparison.towers=[tiny]"], "comparison.towers names `tiny`"),
        (["runs=[outputs/train/*]", "comparison.names=[one]"], "names must be 2 different names"),
        ([f"runs=[{feed.folder}]"], "holds no report.json"),
    ):
        code, out, err = job(*arguments)
        assert (code, out, len(err)) == (2, "", 1), arguments
        assert words in err[0]
    assert len(reports(feed.folder, "compare")) == before


def test_a_run_without_scores_says_how_to_make_them(feed, job, tmp_path):
    shutil.copytree(feed.runs[0], tmp_path / "old")
    (tmp_path / "old" / "predictions.parquet").unlink()
    code, _, err = job(f"runs=[{tmp_path / 'old'}]")
    assert code == 2
    assert f"`python -m pipelines.evaluate run={tmp_path / 'old'}`" in err[0]


def test_a_run_without_test_rows_is_left_out_of_a_pattern_and_refused_by_name(feed, job, tmp_path):
    for place, one in zip("ab", feed.runs, strict=False):
        shutil.copytree(one, tmp_path / place)
    (tmp_path / "b" / "predictions.parquet").unlink()
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    del report["data"]["rows_test"]
    (tmp_path / "b" / "report.json").write_text(json.dumps(report))
    code, _, err = job(f"runs=[{tmp_path}/*]")
    assert (code, err) == (0, [])
    assert newest(feed, "compare")[1]["systems"]["A"]["runs"] == [str(tmp_path / "a")]
    code, _, err = job(f"runs=[{tmp_path / 'b'}]")
    assert code == 2
    assert f"{tmp_path / 'b'} has no test rows to compare on. Leave it out" in err[0]


def test_slices_that_not_every_run_has_are_one_sentence_a_field(feed, tmp_path):
    kept = read_predictions(feed.runs[0] / "predictions.parquet")
    masks = {f"{name}={i}": np.arange(len(kept.labels)) % 3 == i
             for name in ("item", "age", "gone") for i in range(3)}

    def sliced(run, name, **changes):
        shutil.copytree(run, tmp_path / name)
        slices = {**kept.slices, **masks, **changes}
        write_predictions(tmp_path / name / "predictions.parquet", replace(kept, slices={
            key: mask for key, mask in slices.items() if mask is not None}))
        return tmp_path / name

    no_items = {f"item={i}": None for i in range(3)}
    turned = {"age=0": masks["age=1"], "age=1": masks["age=0"], "gone=0": None, "gone=1": None,
              "gone=2": None, "new_user": None}
    folders = [sliced(feed.runs[0], "a"), sliced(feed.runs[1], "b", **no_items, **turned),
               sliced(feed.runs[2], "c", **no_items)]
    mistakes, notes = [], []
    rows, *_ = scored_systems(
        grouped_runs([open_run(one, mistakes) for one in folders], None, mistakes), (), notes)
    assert mistakes == []
    assert set(rows.slices) == set(kept.slices) - {"new_user"} | {"age=2"}
    c, b = folders[2], folders[1]
    assert notes == [
        f"{b} has no slices of new_user, which are left out.",
        f"{c} and 1 more of the runs have no slices of item, which are left out. Make them with "
        f"`python -m pipelines.evaluate run={c} 'evaluation.slices=[item,age]'`, and compare the "
        "folder that this makes.",
        "Slices that are not the same rows in every run are left out: age=0, age=1.",
        # No field of theirs, so nothing that evaluate could make.
        f"{b} has no slices of gone, which are left out."]


def without_scores(run, to, *towers, diverged):
    """A copy of a run whose `diverged` became NaN, and which has no scores of `towers`."""
    report = json.loads((run / "report.json").read_text())
    progress = {tower: {**one, **({"status": "diverged"} if tower in diverged else {})}
                for tower, one in report["progress"].items()}
    with_report(run, to, progress=progress,
                towers=[tower for tower in report["towers"] if tower not in towers])
    kept = read_predictions(run / "predictions.parquet")
    write_predictions(to / "predictions.parquet", replace(
        kept, logits={tower: z for tower, z in kept.logits.items() if tower not in towers}))
    return to


def test_towers_that_diverged_are_named(feed, tmp_path):
    first = without_scores(feed.runs[0], tmp_path / "first", "mini.alone",
                           diverged=["mini.alone", "mini"])
    second = without_scores(feed.runs[2], tmp_path / "second", "mini.alone",
                            diverged=["mini.alone"])
    other = without_scores(feed.runs[1], tmp_path / "other", diverged=["teacher"])
    mistakes, notes = [], []
    systems = grouped_runs([open_run(one, mistakes) for one in (first, second, other)], None,
                           mistakes)
    assert mistakes == []
    _, (a, b), *_ = scored_systems(systems, (), notes)
    assert (list(a.logits), list(b.logits)) == (
        ["teacher", "mini"], ["teacher", "mini", "mini.alone"])
    assert notes == [
        "The tower mini of A became NaN or infinite with seed 1; its scores there are of its best "
        "weights before that.",
        "The tower mini.alone of A has no scores with seeds 1, 2: it became NaN or infinite before "
        "its first evaluation, and is left out.",
        "The tower teacher of B became NaN or infinite with seed 1; its scores there are of its "
        "best weights before that."]


# --- which runs make a system ---


def fake(seed, revision="r1", **settings):
    return SimpleNamespace(folder=f"{seed}-{revision}", seed=seed, towers=["teacher"],
                           settings={**settings, "git revision": revision})


def test_a_seed_that_comes_twice_is_refused_and_two_revisions_are_two_systems():
    mistakes = []
    one = grouped_runs([fake(2, a="1"), fake(1, a="1"), fake(1, a="2")], None, mistakes)
    assert [[run.seed for run in runs] for runs in one.values()] == [[1, 2], [1]]
    # A sweep over a commit is one system; the same seeds before and after are two.
    across = grouped_runs([fake(1), fake(2, "r2")], None, mistakes)
    assert [len(runs) for runs in across.values()] == [2]
    twice = grouped_runs([fake(1), fake(2), fake(1, "r2"), fake(2, "r2")], None, mistakes)
    assert [{run.settings["git revision"] for run in runs} for runs in twice.values()] == [
        {"r1"}, {"r2"}]
    assert mistakes == []
    grouped_runs([fake(1), fake(1)], None, mistakes)
    assert "with the same seed 1, and would count twice" in mistakes[0]


def test_more_systems_than_letters_have_two():
    names = list(grouped_runs([fake(1, a=str(i)) for i in range(28)], None, []))
    assert names[:2] + names[-3:] == ["A", "B", "Z", "AA", "AB"]


def test_fields_are_compared_by_name_and_to_the_last(feed, tmp_path):
    fields = [{"name": f"field_{i}", "kind": "number", "side": "user", "buckets": 10,
               "description": "x" * 100} for i in range(80)]
    other = [*fields[:-1], {**fields[-1], "buckets": 20}]
    less = fields[1:]
    mistakes = []
    systems = grouped_runs([open_run(with_settings(feed.runs[0], tmp_path / name, fields=one),
                                     mistakes)
                            for name, one in (("a", fields), ("b", other), ("c", less))],
                           None, mistakes)
    assert mistakes == []
    found = differing_settings(systems)
    assert found["data.fields.field_79.buckets"] == {"A": "10", "B": "20", "C": "10"}
    assert found["data.fields.field_0.kind"] == {"A": "number", "B": "number", "C": ""}
    assert set(found) == {"data.fields.field_79.buckets", *(
        f"data.fields.field_0.{key}" for key in ("kind", "side", "buckets", "description"))}


def test_runs_that_learned_from_other_days_are_two_systems(feed, tmp_path):
    data = feed.reports[0]["data"]
    changed = with_report(feed.runs[2], tmp_path / "changed",
                          data={**data, "fingerprint": "0" * 64})
    # Of one seed, they would otherwise be refused as the same run twice.
    again = with_report(feed.runs[0], tmp_path / "again", data={**data, "fingerprint": "1" * 64})
    bare = with_report(feed.runs[0], tmp_path / "bare", data={"rows_test": 44})
    mistakes = []
    systems = grouped_runs([open_run(one, mistakes)
                            for one in (feed.runs[0], changed, again, bare, feed.runs[2])],
                           None, mistakes)
    assert mistakes == []
    assert {name: [run.folder for run in members] for name, members in systems.items()} == {
        "A": [feed.runs[0], feed.runs[2]], "B": [changed], "C": [again], "D": [bare]}
    assert differing_settings(systems) == {"data fingerprint": {
        "A": data["fingerprint"][:12], "B": "0" * 12, "C": "1" * 12, "D": "unknown"}}


def test_where_a_lake_lies_and_what_is_exported_is_no_other_configuration(feed, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(feed.runs[0], moved)
    settings = yaml.safe_load((moved / "config.yaml").read_text())
    settings["data"]["lake"] = "/elsewhere"
    settings["export"]["name"] = "candidate"
    settings["seed"] = 9
    (moved / "config.yaml").write_text(yaml.safe_dump(settings))
    mistakes = []
    runs = [open_run(folder, mistakes) for folder in (feed.runs[0], moved)]
    systems = grouped_runs(runs, None, mistakes)
    assert mistakes == []
    assert {name: [run.seed for run in members] for name, members in systems.items()} == {
        "A": [1, 9]}
    assert json.loads((moved / "report.json").read_text())["status"] == "done"
