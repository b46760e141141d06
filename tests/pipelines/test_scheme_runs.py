"""`scheme_comparison`: the runs that it makes, and what it refuses."""

from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.errors import ConfigError, DataError
from dualdnn.storage import write_json
from pipelines import scheme_comparison, train
from pipelines.compose import composed, resolved
from pipelines.entry import _arguments
from pipelines.load import SCORES_FILE
from pipelines.plan import plan_from
from pipelines.present import make_console
from pipelines.runs import configuration_hash, new_run
from pipelines.scheme_comparison import trained_runs
from pipelines.scheme_runs import scheme_comparison_from
from tests.pipelines.test_configuration_mistakes import CONF


def configured(*overrides):
    return composed("train", _arguments(["experiment=scheme_comparison", *overrides]))


def compared(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        mistakes = []
        settings = resolved(configured(*overrides), mistakes)
        return scheme_comparison_from(settings, mistakes)


def test_schemes_that_leave_the_teacher_alone_share_a_run():
    asked, runs, plan = compared("scheme_comparison.seeds=[3,4]")
    assert asked.baseline == "co_training"
    clean = ["co_training", "two_stage", "two_stage_soft_labels", "two_stage_own_embedding",
             "feature_transfer", "none"]
    assert [(run.seed, list(run.schemes)) for run in runs] == [
        (3, clean), (3, ["rocket_launching"]), (4, clean), (4, ["rocket_launching"])]
    assert [student.name for student in plan.students] == clean
    assert [student.scheme.name for student in plan.students] == [
        "co_training", "two_stage", "two_stage", "two_stage_own_embedding", "feature_transfer",
        "alone"]
    assert [student.objective.label_weight for student in plan.students] == [1, 1, 0, 1, 1, 1]
    assert plan.students[2].objective.soft_label_weight == 1
    assert plan.controls == []
    assert len({configuration_hash(run.settings) for run in runs}) == 4


def test_rows_are_the_same_for_all_seeds():
    _, runs, _ = compared("window=random_fraction", "seed=7", "scheme_comparison.seeds=[1,2]")
    plans = [plan_from(run.settings) for run in runs]
    assert [plan.seed for plan in plans] == [1, 1, 2, 2]
    assert [plan.window.seed for plan in plans] == [7, 7, 7, 7]


def test_extra_fields_are_of_the_scheme_that_has_them():
    _, runs, _ = compared("student=tiny", "student.extra_fields=[hour]", "student.dropout=0.25")
    for run in runs[:2]:
        for student in plan_from(run.settings).students:
            assert list(student.extra_fields) == (
                ["hour"] if student.name == "feature_transfer" else [])
            assert tuple(student.network.hidden_units) == (32, 16)
            assert student.network.dropout == 0.25


def test_every_scheme_can_be_tuned_and_stand_there_twice():
    _, runs, _ = compared(
        "scheme_comparison.schemes=[co_training,rocket_launching,gentle,none]",
        "scheme_comparison.seeds=[1]", "student.dropout=0.1",
        "scheme_comparison.overrides.gentle.scheme=rocket_launching",
        "scheme_comparison.overrides.gentle.distillation.logit_weight=0.1",
        "scheme_comparison.overrides.none.optimizer.learning_rate=0.5",
        "scheme_comparison.overrides.none.dropout=0.3")
    assert [list(run.schemes) for run in runs] == [
        ["co_training", "none"], ["rocket_launching"], ["gentle"]]
    found = {one.name: one for run in runs for one in plan_from(run.settings).students}
    assert {name: one.network.dropout for name, one in found.items()} == {
        "co_training": 0.1, "rocket_launching": 0.1, "gentle": 0.1, "none": 0.3}
    assert found["none"].optimizer.learning_rate == 0.5
    assert found["co_training"].optimizer.learning_rate != 0.5
    assert found["rocket_launching"].objective.logit_weight == 0.5
    assert found["gentle"].objective.logit_weight == 0.1
    assert found["gentle"].moves_teacher


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """Runs that only say which days they learned from; `fingerprint` is that of the lake now."""
    lake = SimpleNamespace(fingerprint="old", trained=[])

    def train_in(run, settings, plan, console, *, export):
        assert str(plan.window.as_of) == str(settings["window"]["as_of"])
        lake.trained.append((run.name, settings["window"]["as_of"]))
        write_json(run / "report.json", {"status": "done", "data": {
            "last_day": "2024-01-04", "fingerprint": lake.fingerprint}})

    monkeypatch.setattr("pipelines.scheme_comparison.train_in", train_in)
    monkeypatch.setattr("pipelines.scheme_comparison._check_run", lambda asked, one, folder: None)
    monkeypatch.setattr("pipelines.scheme_comparison.open_plan_data", lambda plan, state: lake)
    return lake


def test_a_run_that_died_goes_on_with_the_newest_day_that_it_has_found(tmp_path, lake):
    asked, runs, _ = compared("window=rolling", "scheme_comparison.seeds=[1]",
                              f"paths.outputs={tmp_path}")
    died = new_run(tmp_path, "train", runs[0].settings)
    write_json(died / "report.json", {"status": "failed", "data": {
        "last_day": "2024-01-04", "fingerprint": "old"}})
    folders = trained_runs(asked, runs, make_console())
    assert folders[0] == died
    assert lake.trained == [(folder.name, "2024-01-04") for folder in folders]


def test_runs_whose_days_were_changed_since_are_trained_anew(tmp_path, lake, capsys):
    def trained(seeds):
        asked, runs, _ = compared("window=rolling", f"scheme_comparison.seeds={seeds}",
                                  f"paths.outputs={tmp_path}")
        lake.trained.clear()
        return trained_runs(asked, runs, make_console())

    old = trained([1])
    more = trained([1, 2])
    assert more[:2] == old
    assert len(lake.trained) == 2  # those of seed 2 alone
    # One that was killed on the days as they were is not gone on with either.
    write_json(more[3] / "report.json", {"status": "failed", "data": {
        "last_day": "2024-01-04", "fingerprint": "old"}})
    lake.fingerprint = "new"
    capsys.readouterr()
    anew = trained([1, 2])
    said = capsys.readouterr().out
    for one in more:
        assert f"{one} is left alone: its days were changed since it was started" in said
    assert not set(anew) & set(more)
    assert len(lake.trained) == 4
    assert trained([1, 2]) == anew
    assert lake.trained == []


def test_a_lake_that_is_changed_between_two_runs_ends_the_comparison(tmp_path, lake, monkeypatch):
    asked, runs, _ = compared("window=rolling", "scheme_comparison.seeds=[1]",
                              f"paths.outputs={tmp_path}")
    train_in = scheme_comparison.train_in

    def and_the_lake_changes(*args, **options):
        train_in(*args, **options)
        lake.fingerprint = "new"

    monkeypatch.setattr(scheme_comparison, "train_in", and_the_lake_changes)
    with pytest.raises(DataError, match=r"learned from other days than .* Give the same command"):
        trained_runs(asked, runs, make_console())
    assert len(trained_runs(asked, runs, make_console())) == len(runs)
    assert len(lake.trained) == 2 + 1  # the second is of the days as they are now


def test_members_of_a_pool_must_be_there_until_every_run_has_kept_their_scores(tmp_path):
    scores = tmp_path / "scores.parquet"
    scores.touch()
    given = ["window=rolling", "teacher=pool", f"+teacher.towers.earlier.scores={scores}",
             "scheme_comparison.seeds=[1]", f"paths.outputs={tmp_path}", "student=tiny",
             "student.extra_fields=[hour]"]
    _, runs, _ = compared(*given)
    scores.unlink()
    for one in runs:
        with pytest.raises(ConfigError) as raised:
            compared(*given)
        (mistake,) = raised.value.mistakes
        assert mistake.startswith("teacher.towers.earlier.scores: file")
        # The first finds the newest day, the others take it over.
        day = None if one is runs[0] else "2024-01-04"
        run = new_run(tmp_path, "train", {**one.settings, "window": {
            **one.settings["window"], "as_of": day}})
        write_json(run / "report.json", {"status": "done", "data": {"last_day": "2024-01-04"}})
        (run / SCORES_FILE).touch()
    compared(*given)


def test_a_done_comparison_is_shown_again_without_the_members_of_its_pool(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(train, "given_overrides", list)
    monkeypatch.setattr(train, "show_finished", lambda console, run: shown.append(run))
    with initialize_config_dir(CONF, version_base="1.3"):
        config = configured("teacher=pool", "+teacher.towers.earlier.run=gone", "reuse=true",
                            f"paths.outputs={tmp_path}")
        run = new_run(tmp_path, "train", resolved(config, []))
        write_json(run / "report.json", {"status": "done"})
        train.main(config)
    assert shown == [run]


def test_extra_fields_are_no_mistake_beside_another_one():
    with pytest.raises(ConfigError) as raised:
        compared("student=tiny", "student.extra_fields=[hour]", "scheme_comparison.resamples=1")
    assert raised.value.mistakes == ["scheme_comparison.resamples must be >= 100, got 1."]


@pytest.mark.parametrize(("overrides", "messages"), [
    (["scheme_comparison.schemes=[co_training,alone]", "scheme_comparison.seeds=[1,1]",
      "scheme_comparison.baseline=none", "scheme_comparison.resamples=3",
      "controls=[alone]", "scheme=two_stage", "students=[tiny,light]", "training.epochs=0"],
     ["scheme_comparison.schemes must be different ones out of co_training, two_stage,",
      "got ['co_training', 'alone']", "scheme_comparison.seeds must be different whole numbers",
      "scheme_comparison.baseline must be one of the schemes co_training, alone, got `none`",
      "scheme_comparison.resamples must be >= 100, got 3.",
      "controls and scheme_comparison are both given, got controls=['alone']",
      "scheme and scheme_comparison are both given, got scheme='two_stage'",
      "scheme_comparison trains one student under every scheme, got tiny, light",
      "training.epochs must be >= 1"]),
    (["scheme_comparison.seeds=[]", "student.scheme=two_stage"],
     ["scheme_comparison.seeds must be different whole numbers >= 0 such as [1,2,3,4,5], got []",
      "the student's own scheme and scheme_comparison are both given, got 'two_stage'"]),
    (["+scheme_comparison.rows=3"], ["scheme_comparison.rows is not known"]),
    (["scheme_comparison.overrides.none.scheme=two_stage",
      "scheme_comparison.overrides.two_stage_soft_labels.scheme=three_stage"],
     ["scheme_comparison.overrides.none.scheme: none is a scheme itself. Give the student another",
      "or names whose scheme_comparison.overrides.NAME.scheme is one out of co_training,"]),
    (["scheme_comparison.overrides.nobody.dropout=0.5"],
     ["scheme_comparison.overrides.nobody: nobody is no scheme; they are co_training,"]),
    (["scheme_comparison.overrides.two_stage_soft_labels.scheme=[two_stage]"],
     ["or names whose scheme_comparison.overrides.NAME.scheme is one out of co_training,"]),
    (["scheme_comparison.overrides.two_stage=3"],
     ["scheme_comparison.overrides.two_stage must be a mapping, got 3."]),
    (["scheme_comparison.overrides.none.dropuot=0.5"],
     ["student/none.dropuot is not known"]),
    # What only one of the runs can know.
    (["+student.distillation.hint_weight=1"], ["scheme two_stage has no hint loss"]),
    (["distillation.stop_gradient.embedding=false"],
     ["scheme two_stage, which starts when the teacher has finished: there is nothing to move"]),
    (["window=rolling", "window.holdout_days=0"],
     ["scheme_comparison compares on the test part, and window.holdout_days is 0. Give it days."]),
    (["export.student=co_training"],
     ["export.student=co_training: scheme_comparison exports nothing. Leave it at null"]),
    (["scheme_comparison.schemes=[co_training,teacher]",
      "+scheme_comparison.overrides.teacher.scheme=two_stage"],
     ["a student must be named by letters, digits, `_` and `-`, and not `teacher` or `shared`, "
      "got `teacher`"]),
    (["scheme_comparison.schemes=[co_training,a.b]",
      "+scheme_comparison.overrides={a.b: {scheme: two_stage}}"],
     ["a student must be named by letters, digits, `_` and `-`, and not `teacher` or `shared`, "
      "got `a.b`"]),
    (["scheme_comparison.baseline=rocket_launching"],
     ["scheme_comparison.baseline must leave the teacher as it is", "got `rocket_launching`"]),
])
def test_what_is_wrong_is_named_before_data_is_read(overrides, messages):
    with pytest.raises(ConfigError) as raised:
        compared(*overrides)
    for message in messages:
        assert message in str(raised.value)
