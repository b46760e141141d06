"""The jobs as a user meets them: processes in a folder of the user's own."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from mlflow import MlflowClient

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.evaluation.predictions import read_predictions
from dualdnn.export.versions import read_manifest
from pipelines.load import planned_run
from tests.pipelines.conftest import make_feed

REPOSITORY = Path(__file__).resolve().parents[2]


def command(job, *arguments):
    return [sys.executable, "-m", f"pipelines.{job}", *arguments]


def environment():
    # A user stands in the repository or has it on the path; everything else lies elsewhere.
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def run(folder, job, *arguments):
    """A job started in `folder`: exit code, stdout, lines of stderr."""
    done = subprocess.run(command(job, *arguments), cwd=folder, env=environment(), text=True,
                          capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.splitlines()


def reports(folder, job="train"):
    """(run folder, report) of every run, oldest first."""
    found = sorted((folder / "outputs" / job).glob("*/report.json"))
    return [(path.parent, json.loads(path.read_text())) for path in found]


@pytest.fixture
def forked(forks):
    """Returns a function: as `run`, without the seconds that a start of Python takes."""

    def run(folder, job, *arguments):
        done = forks.run(folder, job, *arguments)
        return done["code"], done["out"], done["err"].splitlines()

    return run


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    """A folder in which no job has run yet."""
    return make_feed(tmp_path_factory.mktemp("feed"), store=False)


@pytest.fixture(scope="module")
def trained(feed):
    """The feed with one finished run, and what the terminal said."""
    code, out, err = run(feed.folder, "train", *feed.given)
    assert (code, err) == (0, []), out
    ((feed.run, feed.report),) = reports(feed.folder)
    feed.out = out
    return feed


def test_training_says_what_it_did(trained):
    out = trained.out
    assert "my_feed: 352 rows train, 44 valid, 44 test; 4 fields" in out
    assert "step 12 of at most 18: valid log loss teacher 0." in out
    # The student consolidates for a pass more.
    assert "step 18 of at most 18: valid log loss mini 0." in out
    for tower in ("teacher", "mini", "control alone", "control shared_label_only"):
        assert re.search(rf"^ *{tower} +0\.\d", out, re.MULTILINE), tower
    assert len(re.findall(r'^  p=0\.\d{4}  \{"user": ', out, re.MULTILINE)) == 3
    assert f"report    {trained.run / 'report.md'}" in out
    assert re.search("^mlflow    .*mlflow ui --backend-store-uri sqlite:///", out, re.MULTILINE)
    assert "\x1b" not in out  # no colours, no cursor in a pipe


def test_a_run_lies_below_the_folder_it_was_started_in(trained):
    assert {path.name for path in trained.folder.iterdir()} == {
        "conf", "feed", "outputs", "state", "exported_models"}
    assert {path.name for path in trained.run.iterdir()} >= {
        "config.yaml", "report.json", "report.md", "training_curves.png", "reliability.png",
        "distillation_losses.png", "checkpoints", "tensorboard", "model", "row_map"}
    export = trained.report["export"]
    assert export["path"] == str(trained.folder / "exported_models" / "my_feed_dev" / "1")
    assert (trained.report["status"], trained.report["data"]["name"]) == ("done", "my_feed")


def test_every_tower_has_curves_in_tensorboard(trained):
    found = {}
    for path in (trained.run / "tensorboard").rglob("events.out.*"):
        tags = {value.tag for record in tf.data.TFRecordDataset(str(path))
                for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value}
        found[path.parent.name] = tags
    assert set(found) == {"teacher", "mini", "mini.alone", "mini.shared_label_only"}
    assert found["mini"] >= {"train/label_loss", "train/soft_label_loss", "train/hint_loss",
                             "valid/log_loss", "valid/auc"}


# mlflow reads its own database in a way that its database library has since deprecated.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_a_run_in_mlflow_is_the_run_folder(trained):
    client = MlflowClient(tracking_uri=trained.report["tracking_uri"])
    logged = client.get_run(trained.report["mlflow_run"])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["data.name"] == "my_feed"
    assert logged.data.params["student_configs.mini.hidden_units"] == "[6]"
    tags = logged.data.tags
    assert tags["dualdnn.run_folder"] == str(trained.run)
    assert tags["dualdnn.data_fingerprint"] == trained.report["data"]["fingerprint"]
    assert {"dualdnn.schema_hash", "dualdnn.git_revision", "dualdnn.job"} <= set(tags)
    for tower, numbers in (("teacher", trained.report["teacher"]),
                           ("mini", trained.report["students"]["mini"])):
        assert logged.data.metrics[f"{tower}/test/auc"] == numbers["auc"]
    steps = [m.step for m in client.get_metric_history(logged.info.run_id,
                                                       "teacher/valid/log_loss")]
    assert steps == [3, 6, 9, 12]
    files = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
    assert files >= {"report.json", "report.md", "config.yaml", "training_curves.png"}
    assert Path(logged.info.artifact_uri.removeprefix("file://")).is_relative_to(
        trained.folder / "outputs")


def test_make_run_again_shows_the_finished_run(trained, forked):
    code, out, err = forked(trained.folder, "train", *trained.given, "reuse=true", "resume=true")
    assert (code, err) == (0, [])
    assert f"{trained.run} has trained this configuration already" in out
    assert out.splitlines()[-8:] == trained.out.splitlines()[-8:]
    assert len(reports(trained.folder)) == 1


def test_evaluate_measures_the_same_from_another_folder(trained, tmp_path, forked):
    code, out, err = forked(tmp_path, "evaluate", f"run={os.path.relpath(trained.run, tmp_path)}",
                            "paths.state=moved", "evaluation.slices=[item]", "importance=true")
    assert (code, err) == (0, []), out
    ((folder, report),) = reports(tmp_path, "evaluate")
    # A comparison reads this from a folder of its own.
    assert Path(report["run"]).samefile(trained.run)
    assert Path(report["run"]).is_absolute()
    assert (tmp_path / "moved" / "encoded").is_dir()
    for key in ("auc", "log_loss", "weights_sha256"):
        assert report["teacher"][key] == trained.report["teacher"][key]
        assert report["students"]["mini"][key] == trained.report["students"]["mini"][key]
    assert any(name.startswith("item=") for name in report["teacher"]["slices"])
    assert str(folder / "report.md") in out
    # Scores to compare by, with the slices that were asked for.
    kept, again = (read_predictions(one / "predictions.parquet") for one in (trained.run, folder))
    assert kept.fingerprint == again.fingerprint
    for tower, logits in kept.logits.items():
        np.testing.assert_array_equal(again.logits[tower], logits)
    assert set(again.slices) > set(kept.slices)
    # What each field is worth, as this evaluation was asked.
    assert {tower: set(losses) for tower, losses in report["importance"].items()} == {
        tower: {"user", "item", "tags", "age"} for tower in ("teacher", "mini")}
    assert "loss of AUC when all values of a field are unknown" in out
    assert "## Fields" in (folder / "report.md").read_text()
    assert (folder / "importance.png").exists()
    assert "mini ranks as the teacher does: " in out



def test_a_lake_moves_with_the_state_that_it_lies_in(trained, tmp_path):
    settings = yaml.safe_load((trained.run / "config.yaml").read_text())
    settings["data"]["lake"] = f"{settings['paths']['state']}/lakes/feed"
    # The row map of the run has kept what was in it.
    settings["data"]["fields"].append(
        {"name": "cover", "kind": "vector", "file": "gone.parquet", "key": "item"})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    moved, plan = planned_run(tmp_path, state=tmp_path / "state")
    assert moved["paths"]["state"] == str(tmp_path / "state")
    assert plan.lake.path == tmp_path / "state" / "lakes" / "feed"


def test_export_makes_another_version_of_an_mlflow_run(trained, forked):
    code, out, err = forked(trained.folder, "export", f"run={trained.report['mlflow_run']}",
                         "export.name=candidate")
    assert (code, err) == (0, []), out
    one, other = (trained.folder / "exported_models" / name / "1" / "manifest.json"
                  for name in ("my_feed_dev", "candidate"))
    one, other = json.loads(one.read_text()), json.loads(other.read_text())
    assert one["signatures"] == other["signatures"]
    told = [re.findall(r"^  p=.*", text, re.MULTILINE) for text in (trained.out, out)]
    assert told[0] == told[1]  # the same requests have the same answers


def test_a_student_that_breaks_after_an_evaluation_says_so_and_is_not_the_one_exported(
        tmp_path, forked):
    # Its first step is enormous and finite, is evaluated, and is followed by none.
    wild = ["students=[mini,tiny]", "student_overrides.mini.optimizer.learning_rate=1e12",
            "controls=[]", "training.evaluations_per_epoch=6"]
    given = [one for one in make_feed(tmp_path).given if one != "student=mini"]
    code, out, err = forked(tmp_path, "train", *given, *wild)
    assert (code, err) == (0, []), out
    ((folder, report),) = reports(tmp_path)
    mini, tiny = report["students"]["mini"], report["students"]["tiny"]
    assert {"status", "auc", "latency_ratio"} <= set(mini)
    assert (mini["status"], "status" in tiny) == ("diverged", False)
    said = "tudent mini became NaN or infinite and dropped out; its numbers are of its best weights"
    assert f"s{said}" in out
    assert f"S{said} before that." in (folder / "report.md").read_text()
    assert report["export"]["student"] == "tiny"
    code, out, _ = forked(tmp_path, "evaluate", f"run={folder}")
    assert (code, f"s{said}" in out) == (0, True), out
    code, out, _ = forked(tmp_path, "export", f"run={folder}", "export.student=mini")
    assert code == 0, out
    assert "(student mini, which became NaN or infinite, version 2" in out
    assert read_manifest(tmp_path / "exported_models" / "my_feed_dev" / "2")["metrics"][
        "status"] == "diverged"


@pytest.mark.parametrize(("arguments", "code", "last"), [
    (["seed=-1", "training.epochs=0", "students=[mni]"], 2,
     r"error: 4 mistakes in the configuration: .*students=\[mni\].*seed.*training\.epochs"),
    (["distillation.soft_label_weight=0", "distillation.temperature=4"], 2,
     r"error: distillation\.temperature is given, but no student of this run has a soft_label_w"),
    (["data.label=clack"], 1, r"error: .*part\.parquet: column `clack` is missing"),
])
def test_the_last_line_says_what_is_wrong(feed, tmp_path, arguments, code, last, forked):
    ended, out, err = forked(feed.folder, "train", *feed.given, f"paths.outputs={tmp_path}",
                          *arguments)
    assert (ended, out) == (code, "")
    assert len(err) == 1
    assert re.match(last, err[0]), err
    if code == 2:
        assert list(tmp_path.iterdir()) == []


# --- a run that is ended from outside ---


def _hear_interrupts():
    """Tests that run in the background of a shell inherit that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Background:
    """A training that goes on while the test looks."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self.process = subprocess.Popen(command("train", *arguments), cwd=folder, text=True,
                                        env=environment(), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, preexec_fn=_hear_interrupts)

    def wait_for(self, pattern):
        """Until a path exists below the folder; training must not have ended before."""
        while not (found := list(self.folder.glob(pattern))):
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        return found[0]

    def end(self, number):
        self.process.send_signal(number)
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A feed whose training takes so many steps that a signal finds it at work."""
    feed = make_feed(tmp_path_factory.mktemp("long"))
    feed.given += ["training.epochs=3000", "training.patience=3000", "controls=[]",
                   "training.checkpoint_every_steps=2"]
    return feed


def test_a_second_job_in_a_run_folder_is_refused_and_an_interrupt_can_be_resumed(long, forked):
    first = Background(long.folder, *long.given)
    checkpoint = first.wait_for("outputs/train/*/checkpoints/step-*")
    folder = checkpoint.parents[1]
    code, _, err = forked(long.folder, "train", *long.given, "resume=true")
    assert code == 1
    assert re.search(rf"^error: {folder / '.lock'} is locked by pid {first.process.pid}, started "
                     r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\.", err[-1]), err

    code, _, err = first.end(signal.SIGINT)
    assert code == 130
    assert err.splitlines()[-1] == (f"error: interrupted; `python -m pipelines.train resume="
                                    f"{folder}` goes on with it")
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "failed"
    database = sqlite3.connect(long.folder / "outputs" / "mlflow.db")
    assert database.execute("select status from runs").fetchall() == [("FAILED",)]


def test_a_killed_run_ends_as_if_it_had_not_been_killed(trained, tmp_path, forked, forks):
    # The same configuration as `trained`, which nobody interrupted.
    paths = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.exported_models={tmp_path / 'x'}"]
    killed = forks.run(trained.folder, "train", *trained.given, *paths, kill_at=4,
                       since="checkpoints/.tmp-step-0000000006")
    assert killed["code"] == -signal.SIGKILL, killed["said"]
    code, out, err = forked(trained.folder, "train", *trained.given, *paths, "resume=true")
    assert (code, err) == (0, [])
    ((folder, report),) = reports(tmp_path)
    assert re.search(rf"resumed at step \d+ of {folder}", out)
    for tower in ("teacher", "mini"):
        mine, theirs = ((one[tower] if tower == "teacher" else one["students"][tower])
                        for one in (report, trained.report))
        assert mine["weights_sha256"] == theirs["weights_sha256"]
    assert report["mlflow_run"]


def test_students_of_several_schemes_share_a_run_with_the_same_teacher(trained, tmp_path, forked):
    given = [one for one in trained.given if not one.startswith("student=")]
    paths = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.exported_models={tmp_path / 'x'}"]
    code, out, err = forked(
        trained.folder, "train", *given, *paths, "students=[tiny,mini]", "controls=[]",
        "student_overrides.tiny.scheme=two_stage", "student_overrides.mini.scheme=feature_transfer",
        "student_overrides.mini.extra_fields=[item,age]", "export.student=mini")
    assert (code, err) == (0, [])
    ((folder, report),) = reports(tmp_path)
    # 12 steps of the teacher, and as many of those that waited for it.
    assert "step 24 of at most 24: valid log loss tiny 0." in out
    assert report["teacher"]["weights_sha256"] == trained.report["teacher"]["weights_sha256"]
    assert {name: one["scheme"] for name, one in report["students"].items()} == {
        "tiny": "two_stage", "mini": "feature_transfer"}
    assert report["export"]["parity_max_abs"] <= 1e-6
    code, out, err = forked(tmp_path, "evaluate", f"run={folder}")
    assert (code, err) == (0, [])
    ((_, again),) = reports(tmp_path, "evaluate")
    for name, one in report["students"].items():
        assert again["students"][name]["weights_sha256"] == one["weights_sha256"]
        assert again["students"][name]["auc"] == one["auc"]


@pytest.mark.prove
def test_kills_at_any_moment_leave_no_trace_in_the_weights(long, tmp_path):
    given = [*long.given, "training.epochs=60"]
    code, _, err = run(long.folder, "train", *given, f"paths.outputs={tmp_path / 'whole'}")
    assert (code, err) == (0, [])
    whole = json.loads(next(tmp_path.glob("whole/train/*/report.json")).read_text())
    rng, kills = random.Random(7), 0
    while True:
        job = Background(long.folder, *given, f"paths.outputs={tmp_path / 'killed'}",
                         "resume=true", "reuse=true")
        try:
            # From before the first import to after the last step.
            out, err = job.process.communicate(timeout=rng.uniform(2, 16 + kills))
            break
        except subprocess.TimeoutExpired:
            job.end(signal.SIGKILL)
            kills += 1
    assert (job.process.returncode, err) == (0, ""), out
    assert kills >= 3
    (killed,) = (json.loads(path.read_text())
                 for path in tmp_path.glob("killed/train/*/report.json"))
    for tower in ("teacher", "mini"):
        mine, theirs = ((one if tower == "teacher" else one["students"])[tower]
                        for one in (killed, whole))
        assert mine["weights_sha256"] == theirs["weights_sha256"]
        assert mine["auc"] == theirs["auc"]
