"""Which run folder `resume`, `reuse` and `run` mean."""

import json
import re

import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.errors import ConfigError
from pipelines.runs import choose_run, configuration_hash, finished_run, new_run, settings_of


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def settings(outputs):
    return {
        "seed": 1, "window": {"as_of": None, "days": 3}, "resume": False, "reuse": False,
        "debug": False, "paths": {"outputs": str(outputs), "exported_models": "x", "state": "y"},
        "tracking": {"uri": None, "experiment": None},
    }


def a_run(outputs, settings, status, **report):
    folder = new_run(outputs, "train", settings)
    if status:
        (folder / "report.json").write_text(
            json.dumps({"job": "train", "status": status, **report}))
    return folder


def chosen(settings, *overrides, **changes):
    mistakes = []
    found = choose_run("train", {**settings, **changes}, overrides, mistakes)
    assert mistakes == []
    return found


def test_folders_of_one_second_count_on(outputs, settings):
    folders = [new_run(outputs, "train", settings) for _ in range(3)]
    assert len(set(folders)) == 3
    for folder in folders:
        assert re.match(r"\d{8}T\d{6}Z(-\d+)?$", folder.name)


def test_what_a_kill_left_before_there_was_a_run_is_removed(outputs, settings):
    run = new_run(outputs, "train", settings)
    (run / ".tmp-report.json-1-a").write_text("of a job that goes on")
    empty, half = (run.with_name(f"20240101T00000{i}Z") for i in range(2))
    others = run.with_name("notes"), run.with_name("20240101T000002Z")
    for folder in (empty, half, *others):
        folder.mkdir()
    (half / ".tmp-config.yaml-9865-fb37416c").write_text("seed:")
    (others[1] / "weights").write_text("somebody's")
    new_run(outputs, "train", settings)
    assert not empty.exists()
    assert not half.exists()
    assert all(folder.exists() for folder in others)
    assert (run / ".tmp-report.json-1-a").exists()


def test_without_resume_and_reuse_every_run_is_new(outputs, settings):
    a_run(outputs, settings, "done")
    a_run(outputs, settings, "failed")
    assert chosen(settings)[1] is None


def test_resume_takes_the_newest_unfinished_run_of_the_same_configuration(outputs, settings):
    a_run(outputs, settings, "failed")
    newest = a_run(outputs, settings, "running")
    a_run(outputs, settings, "done")
    a_run(outputs, {**settings, "seed": 2}, "running")
    assert chosen(settings, resume=True)[1] == newest


def test_a_run_killed_before_its_first_report_is_resumed(outputs, settings):
    killed = a_run(outputs, settings, None)
    assert chosen(settings, resume=True)[1] == killed


def test_resume_starts_a_run_where_there_is_none(outputs, settings):
    a_run(outputs, {**settings, "seed": 2}, "failed")
    assert chosen(settings, resume=True)[1] is None


def test_reuse_and_resume_together_end_the_work_once(outputs, settings):
    killed = a_run(outputs, settings, "running")
    assert chosen(settings, resume=True, reuse=True)[1] == killed
    done = a_run(outputs, settings, "done")
    assert chosen(settings, resume=True, reuse=True)[1] == done


def test_what_steers_the_job_is_not_part_of_the_configuration(settings):
    same = {**settings, "resume": True, "debug": True, "paths": {}, "tracking": {}}
    assert configuration_hash(same) == configuration_hash(settings)
    assert configuration_hash({**settings, "seed": 2}) != configuration_hash(settings)


def test_a_resumed_run_keeps_the_newest_day_of_its_start(outputs, settings):
    run = a_run(outputs, settings, "running", data={"last_day": "2024-01-03"})
    found, folder = chosen(settings, resume=True)
    assert (folder, found["window"]["as_of"]) == (run, "2024-01-03")
    assert settings_of(run)["window"]["as_of"] == "2024-01-03"


def test_a_run_folder_brings_its_own_configuration(outputs, settings):
    run = a_run(outputs, {**settings, "seed": 7}, "failed")
    moved = {**settings["paths"], "outputs": "elsewhere", "state": "other"}
    found, folder = chosen(settings, "resume=x", "paths.state=other", resume=str(run), paths=moved)
    assert (folder, found["seed"]) == (run, 7)
    assert found["paths"] == {**settings["paths"], "state": "other"}


def test_a_run_folder_cannot_be_resumed_with_another_configuration(outputs, settings):
    run = a_run(outputs, {**settings, "seed": 7}, "failed")
    mistakes = []
    choose_run("train", {**settings, "resume": str(run), "seed": 8}, ["seed=8"], mistakes)
    assert mistakes == [f"resume={run} goes on with the configuration of that run; remove seed=8, "
                        "or start a new run with it."]
    assert chosen(settings, "seed=7", resume=str(run), seed=7)[1] == run


# --- run=, of evaluate and export ---


def of_job(settings, run):
    return {**settings, "run": run}


def test_the_newest_finished_run_is_the_default(outputs, settings):
    folders = [a_run(outputs, settings, "done") for _ in range(11)]  # -9, -10, -11: by number
    a_run(outputs, settings, "failed")
    assert finished_run(of_job(settings, None), []) == folders[-1]


def test_a_run_can_be_named(outputs, settings):
    first, _ = (a_run(outputs, settings, "done") for _ in range(2))
    assert finished_run(of_job(settings, str(first)), []) == first


def test_other_folders_among_the_runs_are_let_be(outputs, settings):
    run = a_run(outputs, settings, "done")
    run.rename(outputs / "train" / "kept-for-the-paper")
    (outputs / "train" / "99999999T999999Z").mkdir()
    with pytest.raises(ConfigError, match="there is no finished run in"):
        finished_run(of_job(settings, None), [])


@pytest.mark.parametrize(("status", "message"), [
    ("failed", "must be a finished training run, but .* is a run of train, failed."),
    (None, "must be a finished training run, but .* holds no report.json."),
])
def test_an_unfinished_run_is_refused(outputs, settings, status, message):
    run = a_run(outputs, settings, status)
    with pytest.raises(ConfigError, match=message):
        finished_run(of_job(settings, str(run)), [])


def test_mistakes_found_before_are_named_too(settings):
    with pytest.raises(ConfigError) as raised:
        finished_run(of_job(settings, "nowhere"), ["evaluation.slices is wrong."])
    first, second = raised.value.mistakes
    assert first == "evaluation.slices is wrong."
    assert second.startswith("run=nowhere is neither a folder nor a dualdnn run in mlflow at "
                             "sqlite:///")


def test_asking_for_an_mlflow_run_makes_no_database(outputs, settings):
    outputs.mkdir()
    with pytest.raises(ConfigError, match="neither a folder nor a dualdnn run in mlflow"):
        finished_run(of_job(settings, "0123456789abcdef"), [])
    assert list(outputs.iterdir()) == []


def test_run_must_be_text(settings):
    with pytest.raises(ConfigError, match="run must be a run folder or an mlflow run id, got 3"):
        finished_run(of_job(settings, 3), [])
