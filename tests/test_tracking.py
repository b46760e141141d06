import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from dualdnn.tracking import MlflowRun, TensorBoardWriter, default_uri, flattened

ROOT = Path(__file__).parents[1]
# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SETTINGS = {"seed": 1, "resume": False, "teacher": {"mlp": {"hidden_units": [8, 4]}},
            "long": "x" * 9000, "nothing": None, "empty": {}}


def test_settings_are_flattened():
    assert flattened(SETTINGS) == {
        "seed": "1", "resume": "False", "teacher.mlp.hidden_units": "[8, 4]", "long": "x" * 9000,
        "nothing": "None"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run that failed, was resumed with another value of `resume`, and finished."""
    outputs = tmp_path_factory.mktemp("with space") / "outputs"
    uri = default_uri(outputs)

    def open_run(run_id=None):
        return MlflowRun(uri=uri, outputs=outputs, experiment="tiny", name="first", run_id=run_id)

    run = open_run()
    run.log_settings(SETTINGS, {"dualdnn.git_revision": "abc", "big": "y" * 9000})
    for step in range(1500):
        run.add("teacher/train/total", 1 / (step + 1), step)
    run.end(succeeded=False)
    again = open_run(run.run_id)
    again.log_settings({**SETTINGS, "resume": True}, {"dualdnn.git_revision": "def"})
    again.add("teacher/test/auc", 0.75, 1500)
    report = outputs / "report.md"
    report.write_text("done")
    again.add_artifacts([report, outputs / "not written.png"])
    again.end(succeeded=True)

    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri), run, again, outputs


def test_a_resumed_run_is_the_same_run(tracked):
    client, run, again, _ = tracked
    assert run.run_id == again.run_id
    experiment = client.get_experiment_by_name("tiny").experiment_id
    assert [found.info.run_id for found in client.search_runs([experiment])] == [run.run_id]
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert client.get_run(run.run_id).info.run_name == "first"


def test_params_tags_metrics_and_artifacts_arrive(tracked):
    client, run, _, outputs = tracked
    data = client.get_run(run.run_id).data
    assert data.params == {**flattened(SETTINGS), "long": "x" * 6000}
    assert data.tags["dualdnn.git_revision"] == "def"
    assert len(data.tags["big"]) == 5000
    history = client.get_metric_history(run.run_id, "teacher/train/total")
    assert [(m.step, m.value) for m in history] == [(s, 1 / (s + 1)) for s in range(1500)]
    assert data.metrics["teacher/test/auc"] == 0.75
    assert [artifact.path for artifact in client.list_artifacts(run.run_id)] == ["report.md"]
    # Below the outputs, not in the folder that the command was started in.
    assert [path.read_text() for path in outputs.glob("mlartifacts/tiny/*/artifacts/*")] == ["done"]


def test_a_broken_store_never_ends_a_run_and_warns_once(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    with caplog.at_level(logging.WARNING, logger="dualdnn.tracking"):
        run = MlflowRun(uri=uri, outputs=tmp_path, experiment="tiny", name="first")
        run.log_settings(SETTINGS, {})
        run.add("a", 1.0, 1)
        run.flush()
        run.add_artifacts([tmp_path / "file"])
        run.end(succeeded=True)
    warnings = [r.getMessage() for r in caplog.records if r.name == "dualdnn.tracking"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"mlflow at {uri}: ")
    assert warnings[0].endswith("The run goes on without it.")
    assert run.run_id is None


def test_a_store_that_breaks_later_keeps_the_run_id(tmp_path, caplog):
    run = MlflowRun(uri=default_uri(tmp_path), outputs=tmp_path, experiment="tiny", name="first")
    known = run.run_id
    assert known
    with caplog.at_level(logging.WARNING, logger="dualdnn.tracking"):
        run._client.delete_run(known)  # as another process may
        run.add("a", 1.0, 1)
        run.flush()
        run.add("b", 1.0, 1)
        run.end(succeeded=True)
    assert [r.name for r in caplog.records].count("dualdnn.tracking") == 1
    assert run.run_id == known


_JOBS = """
import os
import sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from dualdnn.tracking import MlflowRun, default_uri
outputs = Path(sys.argv[1])
jobs = []
for name in ["run0", "run1", "run2"]:
    if job := os.fork():
        jobs.append(job)
        continue
    run = MlflowRun(uri=default_uri(outputs), outputs=outputs, experiment="tiny", name=name)
    run.add("auc", 0.5, 1)
    run.end(succeeded=True)
    os.write(1, f"{run.run_id}\\n".encode())
    os._exit(0)
sys.exit(any([os.waitpid(job, 0)[1] for job in jobs]))
"""


def test_three_processes_at_once_share_a_new_database(tmp_path):
    # Forks of one that has imported all there is to import: they meet at the empty database.
    jobs = subprocess.run([sys.executable, "-c", _JOBS, str(tmp_path)], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert jobs.returncode == 0, jobs
    run_ids = set(jobs.stdout.split())
    assert len(run_ids) == 3, jobs
    assert "goes on without it" not in jobs.stderr

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(tmp_path))
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert {run.info.run_id for run in found} == run_ids
    assert [run.data.metrics for run in found] == 3 * [{"auc": 0.5}]


_KILLED_THEN_ANOTHER = """
import os
import signal
import sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from sqlalchemy import event
from sqlalchemy.engine import Engine
from dualdnn.tracking import MlflowRun, default_uri
outputs = Path(sys.argv[1])

def kill(connection, cursor, statement, *more):
    if "_alembic_tmp_" in statement and statement.startswith("INSERT"):  # half of a migration
        os.kill(os.getpid(), signal.SIGKILL)

if not (job := os.fork()):
    event.listen(Engine, "before_cursor_execute", kill)
    MlflowRun(uri=default_uri(outputs), outputs=outputs, experiment="tiny", name="killed")
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]) == -signal.SIGKILL
run = MlflowRun(uri=default_uri(outputs), outputs=outputs, experiment="tiny", name="next")
run.end(succeeded=True)
print(run.run_id)
"""


def test_a_job_that_is_killed_while_it_makes_the_database_leaves_none(tmp_path):
    jobs = subprocess.run([sys.executable, "-c", _KILLED_THEN_ANOTHER, str(tmp_path)], cwd=ROOT,
                          text=True, capture_output=True, check=False)
    assert jobs.returncode == 0, jobs
    assert len(jobs.stdout.strip()) == 32, jobs
    assert "goes on without it" not in jobs.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.lock"}


def test_tensorboard_holds_one_folder_a_tower(tmp_path):
    writer = TensorBoardWriter(tmp_path / "tensorboard")
    writer.add("teacher", "train/total", 0.5, 3)
    writer.add("light.alone", "train/total", 0.25, 3)
    writer.flush()
    found = {}
    for path in (tmp_path / "tensorboard").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[path.parent.name, value.tag, event.step] = float(
                    tf.make_ndarray(value.tensor))
    assert found == {("teacher", "train/total", 3): 0.5, ("light.alone", "train/total", 3): 0.25}
