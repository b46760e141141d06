"""What a job that follows files reports of the rows that it scored, whatever they hold."""

import datetime
import json
import re

import numpy as np
import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.evaluation.metrics import auc, log_loss
from dualdnn.evaluation.progressive import ScoredRows
from dualdnn.tracking import MlflowRun, default_uri
from pipelines.online_report import OnlineReport, show_online
from pipelines.present import make_console
from pipelines.record import RunRecord

# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DAYS = ["2024-01-09", "2024-01-10"]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    return MlflowRun(uri=default_uri(outputs), outputs=outputs, experiment="feed", name="finetune")


@pytest.fixture
def report(tmp_path, mlflow):
    """Of a run that has scored nothing yet."""
    return OnlineReport(RunRecord(run=tmp_path, job="finetune", mlflow=mlflow, about={}), days=2)


def scored(day, labels, weights=None, seed=0):
    """Rows of a day as the online and the offline model have scored them."""
    rng, midnight = np.random.default_rng(seed), datetime.datetime.fromisoformat(f"{day}T00:00Z")
    rows = len(labels)
    return ScoredRows(
        seconds=int(midnight.timestamp()) + np.arange(rows), labels=np.float32(labels),
        groups=rng.integers(0, 5, rows), weights=weights,
        logits={name: rng.normal(size=rows).astype(np.float32) for name in ("online", "offline")})


def ended(report, capsys):
    """The report of the run at its end, and what the terminal said."""
    values = report.write("done", {}, seed=1)
    report.close(values)
    run = report._record.run
    show_online(make_console(), run, values)
    assert json.loads((run / "report.json").read_text()) == values
    return values, capsys.readouterr().out


@pytest.mark.parametrize(("label", "weights"), [(0, None), (1, None), (0, np.ones(40))])
def test_a_day_of_one_class_has_no_auc(report, capsys, label, weights):
    both, one = scored(DAYS[0], np.arange(40) % 2, weights), scored(DAYS[1], [label] * 40, weights)
    report.add("a", both)
    report.add("b", one)
    values, said = ended(report, capsys)
    first, second = (day for day in values["days"] if day["strategy"] == "online")
    assert first["auc"] == pytest.approx(auc(both.labels, both.logits["online"]))
    assert "auc" not in second
    assert second["log_loss"] == pytest.approx(log_loss(one.labels, one.logits["online"]))
    (line,) = (line for line in said.splitlines() if DAYS[1] in line)
    # The day, its rows and the log loss of either model.
    assert len(line.split()) == 4
    assert values["strategies"]["online"]["auc"] > 0


def test_a_run_of_one_class_has_no_auc(report, capsys):
    report.add("a", scored(DAYS[0], [0] * 40))
    values, said = ended(report, capsys)
    for name, section in values["strategies"].items():
        assert "auc" not in section, name
        assert "auc" not in values["differences"].get(name, {}).get("offline", {}), name
    assert values["differences"]["online"]["offline"]["log_loss"]
    assert DAYS[0] in said


def test_only_the_newest_days_are_kept_by_row_and_older_ones_by_their_line(report, capsys):
    days = [*DAYS, "2024-01-11"]
    parts = [scored(day, np.arange(40) % 2, seed=seed) for seed, day in enumerate(days)]
    for number, part in enumerate(parts):
        report.add(f"{number}", part)
        values = report.write("running", {}, seed=1)
    report = OnlineReport(report._record, days=2)  # a new process goes on
    values, said = ended(report, capsys)
    assert [line["day"] for line in values["days"] if line["strategy"] == "online"] == days
    first = next(line for line in values["days"] if line["strategy"] == "online")
    assert first["auc"] == pytest.approx(auc(parts[0].labels, parts[0].logits["online"]))
    newest = values["strategies"]["online"]
    assert (newest["days"], newest["rows"], values["online"]["rows"]) == (2, 80, 120)
    assert newest["auc"] == pytest.approx(auc(
        np.r_[parts[1].labels, parts[2].labels],
        np.r_[parts[1].logits["online"], parts[2].logits["online"]]))
    assert re.search(r"^ *newest 2 +80 ", said, re.MULTILINE)
    run = report._record.run
    assert {path.stem for path in run.glob("progressive/**/*.npz")} == set(days[1:])
    assert (run / "days.svg").exists()


def test_files_that_an_earlier_release_scored_are_left_out_and_that_is_said(report, capsys):
    labels = np.arange(40) % 2
    report.add("a", scored(DAYS[0], labels))  # it kept neither weights nor scores as served
    values, said = ended(report, capsys)
    assert values["strategies"]["online"]["rows"] == 40
    assert "earlier release" not in said
    newer = scored(DAYS[1], labels, 2.0 - labels)
    report.add("b", newer)
    values, said = ended(report, capsys)
    section = values["strategies"]["online"]
    assert [day["day"] for day in values["days"]] == [DAYS[1]] * 2
    assert section["rows"] == 40
    assert section["log_loss"] == pytest.approx(
        log_loss(labels, newer.logits["online"], newer.weights))
    assert (values["online"]["rows"], values["online"]["left_out_files"]) == (80, 1)
    assert "1 files were scored by an earlier release" in said
