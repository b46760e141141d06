"""Every YAML under conf/ composes, alone and in its group, into a plan without mistakes."""

from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from pipelines.compose import composed, plain_values, resolved
from pipelines.daily_plan import daily_plan_from
from pipelines.plan import plan_from

CONF = Path(__file__).resolve().parents[2] / "conf"
PRIMARY = ("train", "evaluate", "export", "compare", "inspect", "publish", "retrain",
           "finetune", "backtest")
NOT_OF_TRAINING = ("job", "finetune", "online", "admission", "partitions", "gate", "retention")
FILES = sorted(CONF.rglob("*.yaml"))
# `job` holds hydra's own settings, and is part of every primary configuration; the groups of daily
# jobs are no part of training.
OPTIONS = [(path.parent.relative_to(CONF).as_posix(), path.stem)
           for path in FILES if path.parent != CONF and path.parent.name not in NOT_OF_TRAINING]
# What an option cannot know for itself.
NEEDED = {"window=given": ["window.column=part"]}
# Files that nobody fetches, by the data that asks for them: only their names count here.
RAW_FILES = {
    "movietweetings": ("ratings.dat", "movies.dat"),
    "criteo": ("train.txt",),
    "avazu": ("train.csv",),
    "avazu_x1": ("train.csv", "valid.csv", "test.csv"),
    "kuairand": ("log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv",
                 "log_random_4_22_to_5_08_pure.csv", "user_features_pure.csv",
                 "video_features_basic_pure.csv", "video_features_statistic_pure.csv"),
}


@pytest.fixture
def raw(tmp_path):
    """A function: the override that names a folder with the raw files of a data set."""
    def override(name):
        for file in RAW_FILES[name]:
            (tmp_path / file).touch()
        return f"data.raw={tmp_path}"
    return override


def plan_of(overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        mistakes = []
        settings = resolved(composed("train", overrides), mistakes)
        return plan_from(settings, mistakes)


def test_the_glob_finds_every_file():
    # A new file belongs into the count, and so into the tests below.
    assert len(FILES) == 60, [path.relative_to(CONF).as_posix() for path in FILES]
    assert len(OPTIONS) == 43
    assert {path.stem for path in FILES if path.parent == CONF} == set(PRIMARY)
    assert not list(CONF.rglob("*.yml"))


@pytest.mark.parametrize("job", PRIMARY)
def test_a_job_composes_without_an_override(job):
    mistakes = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = plain_values(composed(job, []), mistakes)
    assert mistakes == []
    assert Path(settings["paths"]["outputs"]) == Path.cwd() / "outputs"


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda part: part)
def test_an_option_makes_a_plan(group, option, raw):
    choice = f"{group}={option}" if group != "baseline_model" else f"baselines=[{option}]"
    given = [choice, *NEEDED.get(choice, [])]
    if group == "data" and option in RAW_FILES:
        given.append(raw(option))
    plan = plan_of(given)
    assert plan.students
    # Many students are compared with each other, and have no controls of their own.
    many = option in ("student_search", "scheme_comparison")
    assert len(plan.controls) == (0 if many else 2 * len(plan.students))


@pytest.mark.parametrize("job", ["retrain", "finetune"])
@pytest.mark.parametrize("gate", ["default", "off"])
def test_a_daily_job_makes_a_plan(job, gate):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        mistakes = []
        settings = resolved(composed(job, [f"gate={gate}"]), mistakes)
        settings.pop("scope", None)
        plan = daily_plan_from(settings, mistakes)
    assert plan.student == "light"
    assert plan.gate.enabled == (gate == "default")
    assert (plan.towers.training.epochs, plan.towers.training.consolidation_epochs) == (1, 1)
    # A fine-tune sees few rows, and the teacher moves on the next day.
    assert plan.finetune.training(plan.towers.training).consolidation_epochs == 0


def test_every_teacher_goes_with_every_student():
    teachers = [option for group, option in OPTIONS if group == "teacher"]
    students = [option for group, option in OPTIONS if group == "student"]
    for teacher in teachers:
        plan = plan_of([f"teacher={teacher}", f"students=[{','.join(students)}]"])
        assert [student.name for student in plan.students] == students
        interactions = {"xdeepfm_dcn": 2, "pool": 3, "plain": 0}
        assert len(plan.teacher.interactions) == interactions.get(teacher, 1)


def test_one_experiment_trains_every_baseline():
    plan = plan_of(["experiment=baselines"])
    assert sorted(one.name for one in plan.baselines) == sorted(
        option for group, option in OPTIONS if group == "baseline_model")
    # The teacher's MLP where they have one.
    assert {tuple(one.network.hidden_units) for one in plan.baselines} == {
        (), tuple(plan.teacher.hidden_units)}
    assert [one.name for one in plan.baselines if one.gbdt] == ["gbdt_fm_dnn"]


def test_the_published_experiment_is_the_published_pair():
    plan = plan_of(["experiment=iqiyi"])
    same, light = plan.students
    assert (same.name, light.name) == ("same_mlp", "light")
    assert tuple(same.network.hidden_units) == tuple(plan.teacher.hidden_units)
    assert same.objective.soft_label_weight > 0
    assert same.objective.hint_weight > 0
    assert tuple(map(tuple, same.objective.hints)) == ((-1, -1),)


def test_the_command_line_wins_over_an_experiment():
    assert tuple(plan_of(["experiment=iqiyi", "teacher.hidden_units=[7]"]).teacher.hidden_units) \
        == (7,)
    assert [s.name for s in plan_of(["experiment=iqiyi", "students=[tiny]"]).students] == ["tiny"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_file_begins_by_saying_what_it_is(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_a_file_holds_no_key_twice(path):
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{path}: a key is given twice in {keys}"
        return dict(zip(keys, (loader.construct_object(v, True) for _, v in node.value),
                        strict=True))

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    assert yaml.load(path.read_text(encoding="utf-8"), Strict)


def test_seeds_follow_the_seed_of_the_run():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = composed("train", ["seed=5", "window=random_fraction"])
    assert OmegaConf.select(config, "window.seed") == 5
