"""The job as an operator meets it: exit codes, last lines, the table."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.export import promotion
from dualdnn.export.champion import champion_of
from dualdnn.storage import lock
from pipelines.entry import start
from pipelines.publish import main
from tests.tiny_versions import Store

REPOSITORY = Path(__file__).resolve().parents[2]
# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """One mlflow database for all tests: making one takes seconds."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def store(tmp_path, outputs):
    """Versions 1 to 4 of `feed`; 2 and 3 were champions."""
    store = Store(tmp_path)
    store.outputs = outputs
    store.add(1, 2, 3, 4, created="2024-01-05T06:00:00Z", git_revision="abc123",
              metrics={"auc": 0.75, "log_loss": 0.5}, data_fingerprint="f" * 64,
              lineage={"days": ["2024-01-01", "2024-01-04"], "parent_version": 1})
    store.promote(2)
    store.promote(3)
    return store


@pytest.fixture
def run(monkeypatch, capsys, store):
    """Returns a function: the job with a command line; its code, stdout and stderr's last line."""
    monkeypatch.chdir(store.root)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["publish", "export.name=feed",
                                          f"paths.outputs={store.outputs}", *arguments])
        with pytest.raises(SystemExit) as exit:
            start("publish", main)
        said = capsys.readouterr()
        return exit.value.code, said.out, (said.err.splitlines() or [""])[-1]

    return run


def rows(out):
    """(version, status) of the table's rows."""
    return re.findall(r"^ +(\d+)  (\w+) ", out, re.MULTILINE)


def test_the_versions_are_listed(run, store):
    (store.folder / "4" / "saved_model.pb").write_text("cut short")
    code, out, last = run()
    assert (code, last) == (0, "")
    assert rows(out) == [("4", "broken"), ("3", "champion"), ("2", "previous"),
                         ("1", "candidate")]
    (line,) = [line for line in out.splitlines() if line.strip().startswith("3  ")]
    assert line.split() == ["3", "champion", "2024-01-05", "06:00", "0.7500", "0.5000",
                            "2024-01-01", "ffffffff", "abc123", "1", "0.0"]
    assert "2024-01-04\n" in out.replace(" ", "")
    assert "version 4 is broken: saved_model.pb does not fit its sha256." in out
    assert re.search(r"^champion  version 3 since \S+Z, by promote: tested$", out, re.MULTILINE)
    assert str(store.folder / "models.config") in out


def test_promote_roll_back_and_prune(run, store):
    code, out, _ = run("action=promote", "version=4", "reason='better by 0.002'")
    assert (code, out.splitlines()[0]) == (
        0, "the champion of feed is now version 4, before it version 3")
    assert (champion_of(store.folder).version, champion_of(store.folder).reason) == (
        4, "better by 0.002")
    assert champion_of(store.folder).training_state == str(store.state / "4")
    code, out, _ = run("action=promote", "version=4")
    assert (code, out.splitlines()[0]) == (0, "version 4 is the champion of feed already")
    code, out, _ = run("action=rollback")
    assert (code, out.splitlines()[0]) == (
        0, "the champion of feed is now version 3, before it version 4")
    code, out, _ = run("action=rollback", "version=1")
    assert (code, champion_of(store.folder).version) == (0, 1)
    code, out, _ = run("action=prune", "keep=1")
    assert (code, out.splitlines()[0]) == (
        0, "deleted version 3 with their training states; 0.0 MB of models")
    assert rows(out) == [("4", "candidate"), ("2", "previous"), ("1", "champion")]


def test_a_trial_begins_and_ends(run, store):
    code, out, _ = run("action=promote", "version=4", "label=canary")
    assert (code, out.splitlines()[0]) == (
        0, "version 4 of feed is on trial beside champion 3")
    assert store.served() == ([3, 4], {"stable": 3, "canary": 4})
    code, out, _ = run("action=rollback", "label=canary")
    assert (code, out.splitlines()[0]) == (0, "no version of feed is on trial any more")
    assert store.served() == ([3], {"stable": 3})


@pytest.mark.parametrize("action", [[], ["action=promote", "version=4"], ["action=rollback"]])
def test_every_command_repairs_first(run, store, action):
    (store.folder / "models.config").unlink()
    (store.folder / ".tmp-9-1-x").mkdir()
    assert run(*action)[0] == 0
    assert store.served()[1] == {"stable": champion_of(store.folder).version}
    assert not (store.folder / ".tmp-9-1-x").exists()


@pytest.mark.parametrize(("arguments", "last"), [
    (["action=promote", "version=9"], r"error: .*feed has no version 9; there are 1, 2, 3, 4\.$"),
    (["action=list", "export.name=fed"],
     r"error: .*/fed is not there: expected the versions of a model, named by data or "
     r"export\.name; there are feed\.$"),
])
def test_what_is_not_there_fails(run, store, arguments, last):
    code, out, said = run(*arguments)
    assert (code, out) == (1, "")
    assert re.search(last, said), said
    assert not (store.root / "exported_models" / "fed").exists()


@pytest.mark.parametrize(("arguments", "lasts"), [
    (["action=promote"], ["action=promote needs version=N"]),
    (["action=undo", "label=old"], ["action must be one of list, promote, rollback, prune, got "
                                    "'undo'", "label must be stable or canary, got 'old'"]),
    (["version=3", "reason=why"], ["action=list takes no version", "action=list takes no reason"]),
    (["action=prune", "keep=null"], ["keep or keep_days must say"]),
    (["action=prune", "keep=0", "keep_days=-1"], ["keep must be >= 1 version, got 0",
                                                  "keep_days must be >= 0 days, got -1"]),
    (["action=promote", "version=x"], ["error: version must be a whole number, got 'x'"]),
    (["action=promote", "version=0"], ["version must be >= 1, got 0"]),
    (["action=rollback", "version=3", "label=canary"], ["label=canary ends the trial and takes"]),
    (["label=canary"], ["action=list takes no label"]),
    (["action=promote", "version=3", "label=canary", "reason=x"], ["canary keeps no reason"]),
    (["export.name=../feed"], ["export.name must be a folder name of letters"]),
    (["export.student=light"], ["Could not override 'export.student'"]),
    (["verson=3"], ["Could not override 'verson'"]),
])
def test_a_wrong_configuration(run, store, arguments, lasts):
    before = store.looked_at()
    code, out, said = run(*arguments)
    assert (code, out) == (2, "")
    for last in lasts:
        assert last in said
    assert store.looked_at() == before


def test_the_name_is_that_of_the_data(run, store):
    # Raw files are of no interest here: none are given.
    store.folder.rename(store.folder.parent / "movietweetings")
    code, out, last = run("export.name=null", "data=movietweetings")
    assert (code, last) == (0, "")
    assert "versions of movietweetings" in out


def test_a_model_that_another_job_works_on(run, store, monkeypatch):
    monkeypatch.setattr(promotion, "LOCK_SECONDS", 0.2)
    with lock(store.folder / ".lock", wait=False):
        for arguments in (["action=promote", "version=4"], ["action=rollback"], ["action=prune"]):
            code, _, last = run(*arguments)
            assert code == 1
            assert re.search(rf"\.lock is locked by pid {os.getpid()}, started \d{{4}}-", last)
        # Looking is allowed.
        code, out, last = run()
        assert (code, last) == (0, "")
        assert re.search(rf"^read only: .* is locked by pid {os.getpid()}", out, re.MULTILINE)
        assert rows(out)[1] == ("3", "champion")
    assert run("action=promote", "version=4")[0] == 0


def test_a_store_that_cannot_be_reached_is_a_warning(run, store, caplog):
    (store.root / "file").write_text("no folder")
    code, _, _ = run("action=promote", "version=4",
                     f"tracking.uri=sqlite:///{store.root}/file/mlflow.db")
    assert code == 0
    assert champion_of(store.folder).version == 4
    assert "The alias `champion` of feed was not brought to version 4" in caplog.text


def test_the_command_itself(store):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.publish", "export.name=feed", "action=rollback",
         f"paths.outputs={store.outputs}"], cwd=store.root, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert json.loads((store.folder / "champion.json").read_text())["version"] == 2
    assert done.stdout.startswith("the champion of feed is now version 2, before it version 3\n")
    assert "\x1b" not in done.stdout
