"""A backtest: what it reports, that it leaks nothing, and that a kill changes no number."""

import contextlib
import datetime
import io
import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import initialize_config_dir

from dualdnn.errors import ConfigError, DataError
from dualdnn.evaluation.backtest_results import DayResult
from dualdnn.evaluation.metrics import log_loss
from dualdnn.training.strategies import STRATEGIES
from pipelines.backtest import main
from pipelines.backtest_plan import backtest_plan_from
from pipelines.backtest_replay import Replay
from pipelines.compose import composed, resolved
from pipelines.present import make_console
from tests.pipelines.conftest import make_feed
from tests.pipelines.test_jobs import REPOSITORY

TIMES = ("seconds", "wall_seconds", "core_seconds")


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """A feed of eight days, of which the last four are scored."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.tiny_run.DAYS", 8)
        feed = make_feed(tmp_path_factory.mktemp("week"))
    feed.overrides = ["data=my_feed", "teacher=small", "student=mini", "embedding.dim=4",
                      "window.days=3", "start=2024-01-05", "end=2024-01-08"]
    feed.given = ["--config-dir", "conf", *feed.overrides]
    return feed


@pytest.fixture(scope="module")
def played(week):
    """The feed, a finished backtest of all strategies, and what the terminal said."""
    week.out = play_all(week, week.folder / "outputs")
    ((week.run, week.report),) = runs_in(week.folder / "outputs")
    return week


def config_of(week, *overrides):
    """The configuration of the command line, with the feed's configs beside the repository's."""
    more = [f"hydra.searchpath=[{week.folder / 'conf'}]", f"data.lake={week.folder / 'feed'}",
            f"paths.state={week.folder / 'state'}"]
    given = [one for one in week.overrides if "window=time_fraction" not in overrides
             or not one.startswith("window.")]
    return composed("backtest", [*given, *more, *overrides])


def play_all(week, outputs, *overrides):
    """Run the job in this process; what it told."""
    told = io.StringIO()
    with (initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"),
          contextlib.redirect_stdout(told)):
        main(config_of(week, f"paths.outputs={outputs}", *overrides))
    return told.getvalue()


def runs_in(outputs):
    return [(path.parent, json.loads(path.read_text()))
            for path in (outputs / "backtest").glob("*/report.json")]


def plan_of(week, *overrides):
    """What the job checks before it opens the data."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        mistakes = []
        settings = resolved(config_of(week, *overrides), mistakes)
    return backtest_plan_from(settings, mistakes)


def untimed(rows):
    """Rows of days.parquet without what a clock has measured."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


# --- what it leaves ---


def test_the_report_has_the_keys_of_the_contract(played):
    report = played.report
    assert (report["job"], report["status"]) == ("backtest", "done")
    assert tuple(report["strategies"]) == STRATEGIES
    for name, section in report["strategies"].items():
        keys = {"auc", "log_loss", "grouped_auc", "calibration", "seconds", "days"}
        assert keys <= set(section), name
        assert (section["days"], section["rows"]) == (4, 440)
        assert ("teacher" in section) == (name != "logistic_regression")
        for reference in {"retrain_then_finetune", "logistic_regression"} - {name}:
            found = report["differences"][name][reference]["log_loss"]
            other = report["strategies"][reference]
            assert found["difference"] == pytest.approx(section["log_loss"] - other["log_loss"])
            assert found["low"] <= found["difference"] <= found["high"]
    assert set(report["cost"]) == {"seconds", "core_seconds", "peak_memory_bytes"}
    assert report["data"]["first_day"] == "2024-01-01"


def test_sampled_negatives_are_scored_as_they_are_served(week, played, tmp_path):
    play_all(week, tmp_path, "+data.sampling_rate=0.5", "end=2024-01-06",
             "strategies=[frozen,logistic_regression]")
    ((run, report),) = runs_in(tmp_path)
    for strategy, section in report["strategies"].items():
        for day in ("2024-01-05", "2024-01-06"):
            mine, theirs = (np.load(folder / "days" / strategy / f"{day}.npz")
                            for folder in (run, played.run))
            np.testing.assert_allclose(mine["student"], theirs["student"] + np.log(0.5), atol=1e-5)
            np.testing.assert_array_equal(mine["weights"], 2.0 - mine["labels"])
        # Of twice the negatives.
        days = [np.load(run / "days" / strategy / f"2024-01-0{day}.npz") for day in (5, 6)]
        labels, logits = (np.concatenate([day[name] for day in days]) for name in
                          ("labels", "student"))
        assert section["log_loss"] == pytest.approx(log_loss(labels, logits, 2.0 - labels))


def test_there_is_a_row_a_strategy_and_day(played):
    rows = pq.read_table(played.run / "days.parquet").to_pylist()
    days = [datetime.date(2024, 1, 5 + i) for i in range(4)]
    assert [(row["strategy"], row["day"]) for row in rows] == [
        (name, day) for name in STRATEGIES for day in days]
    assert all(row["rows"] == 110 and row["auc"] > 0.4 for row in rows)
    trained = {name: [row["seconds"] > 0 for row in rows if row["strategy"] == name]
               for name in STRATEGIES}
    assert trained["frozen"] == [True, False, False, False]
    assert all(trained["finetune_only"])


def test_models_of_the_same_days_are_the_same_until_their_strategies_part(played):
    logits = {name: np.load(played.run / "days" / name / "2024-01-05.npz")["student"]
              for name in STRATEGIES}
    for name in ("finetune_daily", "finetune_only", "frozen"):
        np.testing.assert_array_equal(logits[name], logits["retrain_daily"])
    assert not np.array_equal(logits["retrain_then_finetune"], logits["retrain_daily"])


def test_nothing_is_published_and_nothing_but_results_stays(played):
    assert {path.name for path in played.folder.iterdir()} == {"conf", "feed", "outputs", "state"}
    assert {path.name for path in (played.folder / "state").iterdir()} == {"encoded"}
    assert {path.name for path in played.run.iterdir()} == {
        "config.yaml", "report.json", "report.md", "days", "days.parquet", "days.svg", "states",
        ".lock"}
    assert list((played.run / "states").iterdir()) == []
    assert "frozen 2024-01-08: 110 rows, 0.0 s training" in played.out
    assert "less logistic_regression" in played.out
    assert f"report    {played.run / 'report.md'}" in played.out
    assert "![Days](days.svg)" in (played.run / "report.md").read_text()


# --- what it knows ---


def test_a_day_cannot_change_what_is_said_about_it_or_before(played, tmp_path):
    # The same feed, but the labels of the last two scored days turned around.
    shutil.copytree(played.folder / "feed", tmp_path / "feed")
    for day in ("2024-01-07", "2024-01-08"):
        path = tmp_path / "feed" / f"dt={day}" / "part.parquet"
        table = pq.read_table(path)
        at = table.column_names.index("click")
        turned = [1 - label for label in table["click"].to_pylist()]
        pq.write_table(table.set_column(at, "click", [turned]), path)
    plan = plan_of(played, f"data.lake={tmp_path / 'feed'}")
    replay = Replay(plan, tmp_path / "run", tmp_path / "state", make_console())
    for name, scored in plan.schedules().items():
        for one, found in replay.play(name, scored).items():
            said = np.load(played.run / "days" / name / f"{one}.npz")
            known = one <= datetime.date(2024, 1, 7) or name == "frozen"
            assert np.array_equal(said["student"], found.student) == known, (name, one)


# --- kills ---


@pytest.mark.prove
def test_a_killed_backtest_ends_as_if_it_had_not_been_killed(played, forks, tmp_path):
    # Fewer strategies than `played`: each is independent of the others.
    some = "strategies=[finetune_daily,logistic_regression]"
    given = [*played.given, some, f"paths.outputs={tmp_path}",
             f"data.lake={played.folder / 'feed'}"]
    killed = forks.run(played.folder, "backtest", *given, kill_at=1,
                       since="days/finetune_daily/.tmp-2024-01-07")
    assert killed["code"] == -signal.SIGKILL, killed["said"]
    assert list(tmp_path.glob("backtest/*/days/finetune_daily/2024-01-06.npz"))
    out = play_all(played, tmp_path, some)
    ((folder, report),) = runs_in(tmp_path)
    assert report["status"] == "done"
    assert f"going on with {folder}" in out
    assert "finetune_daily 2024-01-06" not in out  # was there
    rows, whole = (untimed(pq.read_table(one / "days.parquet").to_pylist())
                   for one in (folder, played.run))
    assert rows == [row for row in whole if row["strategy"] in report["strategies"]]
    for name, to in report["differences"].items():
        assert to.items() <= played.report["differences"][name].items()


class _KilledError(Exception):
    pass


def killed_before(day):
    """`DayResult.save` of a process that ends before the result of a day is on disk."""
    save = DayResult.save

    def killed(self, path):
        if path.name == f"{day}.npz":
            raise _KilledError
        save(self, path)

    return killed


def test_a_kill_between_learning_and_scoring_repeats_neither(played, tmp_path, monkeypatch):
    plan = plan_of(played, "strategies=[finetune_only]")
    ((name, scored),) = plan.schedules().items()

    def play():
        return Replay(plan, tmp_path / "run", played.folder / "state", make_console()
                      ).play(name, scored)

    with monkeypatch.context() as patched:
        patched.setattr(DayResult, "save", killed_before("2024-01-07"))
        with pytest.raises(_KilledError):
            play()
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "run", kept)
    for day, found in play().items():
        said = np.load(played.run / "days" / name / f"{day}.npz")
        np.testing.assert_array_equal(said["student"], found.student)
        np.testing.assert_array_equal(said["teacher"], found.teacher)
        assert found.seconds > 0
    # A state of another day is not taken for the right one.
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(kept, tmp_path / "run")
    (tmp_path / "run" / "days" / name / "2024-01-06.npz").unlink()
    with pytest.raises(DataError, match=r"state that 2024-01-06 goes on from, got 2024-01-07\."):
        play()


# --- what an earlier release has left ---


@pytest.mark.parametrize("scored_before", [1, 2])
def test_days_that_an_earlier_release_scored_are_refused_until_they_are_deleted(
        week, tmp_path, scored_before):
    """Theirs are scores of the negatives that were kept, all of one weight."""
    plan = plan_of(week, "+data.sampling_rate=0.5", "end=2024-01-06",
                   "strategies=[logistic_regression]")
    ((name, scored),) = plan.schedules().items()

    def play():
        return Replay(plan, tmp_path, week.folder / "state", make_console()).play(name, scored)

    whole, folder = play(), tmp_path / "days" / name
    for day in list(whole)[:scored_before]:
        replace(whole[day], weights=None).save(folder / f"{day}.npz")
    with pytest.raises(DataError, match=(
            rf"2024-01-05\.npz was scored by an earlier release.* Delete {folder}, and the same "
            r"command plays this strategy again\.$")):
        play()
    shutil.rmtree(folder)
    for day, found in play().items():
        np.testing.assert_array_equal(found.student, whole[day].student)
        np.testing.assert_array_equal(found.weights, whole[day].weights)


def test_a_state_that_an_earlier_release_left_is_refused_until_its_days_are_deleted(
        week, tmp_path, monkeypatch):
    """It has not noted what its scores are corrected by."""
    plan = plan_of(week, "strategies=[frozen]", "end=2024-01-06")
    ((name, scored),) = plan.schedules().items()

    def play():
        return Replay(plan, tmp_path, week.folder / "state", make_console()).play(name, scored)

    with monkeypatch.context() as patched:
        patched.setattr(DayResult, "save", killed_before("2024-01-06"))
        with pytest.raises(_KilledError):
            play()
    about = tmp_path / "states" / name / "weights" / "state.json"
    noted = json.loads(about.read_text())
    about.write_text(json.dumps({key: noted[key] for key in noted if key != "negatives"}))
    folder = tmp_path / "days" / name
    with pytest.raises(DataError, match=(
            rf"2024-01-06 goes on from, got one of an earlier release\. Delete {folder}, and the "
            r"same command plays this strategy again\.$")):
        play()
    shutil.rmtree(folder)
    # The first day is learned again: the state, which is that of this day, does not stand for it.
    assert [one.seconds > 0 for one in play().values()] == [True, False]


# --- what is refused ---


@pytest.mark.parametrize(("overrides", "message"), [
    ("start=20240105", "start must be a day as YYYY-MM-DD, got 20240105."),
    ("end=null", "end must be a day as YYYY-MM-DD, got None."),
    ("start=2024-01-09", "start must not lie after end, got start=2024-01-09 and end=2024-01-08."),
    ("strategies=[frosen]", "strategies must be a list out of retrain_then_finetune, retrain_da"),
    ("strategies=frozen", "strategies must be a list out of"),
    ("strategies=[]", "strategies must be a list out of"),
    ("strategies=[frozen,frozen]", "strategies lists a name twice: frozen, frozen."),
    ("students=[]", "a backtest measures the first student, got students=[]. Name one."),
    ("window=time_fraction", "a backtest needs window=rolling, got "),
    ("window.valid_days=1", "window.valid_days must be 0 in a backtest, got 1"),
    ("window.as_of=2024-01-05", "window.as_of must be null in a backtest, got '2024-01-05'"),
    ("finetune.epochs=0", "finetune.epochs must be >= 1, got 0."),
    ("student.scheme=alone", "student/mini.scheme must be co_training in a daily job, got alone"),
    ("admission.capacity=1", "admission.capacity must be >= 2 or null, got 1."),
    ("++data.fields.1.size=8",
     "strategies lists logistic_regression, which reads one table of rows"),
])
def test_a_mistake_is_named(week, overrides, message):
    with pytest.raises(ConfigError) as found:
        plan_of(week, overrides, "seed=-1")
    assert any(one.startswith(message) for one in found.value.mistakes), found.value
    assert "seed must be a whole number >= 0, got -1." in found.value.mistakes


def test_a_day_that_the_lake_does_not_have_is_named_before_anything_is_learned(week, tmp_path):
    with pytest.raises(DataError, match=(
            r"reads 2023-12-30 to 2024-01-08, but 2023-12-30, 2023-12-31 \(2 days\) have no comp")):
        play_all(week, tmp_path, "start=2024-01-03")
    ((_, report),) = runs_in(tmp_path)
    assert report["status"] == "failed"


def test_a_mistake_leaves_no_run_folder(week, tmp_path):
    with pytest.raises(ConfigError, match="2 mistakes"):
        play_all(week, tmp_path, "strategies=[frosen]", "end=never")
    assert list(tmp_path.iterdir()) == []
