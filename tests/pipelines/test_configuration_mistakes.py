"""Wrong configuration: every mistake is named, together with all others, before data is read."""

import re
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.errors import HydraException

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.errors import ConfigError
from pipelines import evaluate
from pipelines.compose import composed, resolved
from pipelines.daily_plan import daily_plan_from
from pipelines.entry import _arguments
from pipelines.plan import plan_from
from pipelines.runs import choose_run

CONF = str(Path(__file__).resolve().parents[2] / "conf")


def plan_of(*overrides, conf=CONF, more=(), begins=False):
    """What `python -m pipelines.train OVERRIDES` checks before it opens the data."""
    searched = [f"hydra.searchpath=[{','.join(more)}]"] if more else []
    with initialize_config_dir(conf, version_base="1.3"):
        mistakes = []
        config = composed("train", _arguments([*overrides, *searched]))
        settings = resolved(config, mistakes)
        settings, _ = choose_run("train", settings, list(overrides), mistakes)
    return plan_from(settings, mistakes, begins=begins)


MISTAKES = [
    # --- baselines ---
    ("baselines=fm", "baselines must be a list of names such as [fm,deepfm], got 'fm'."),
    ("baselines=[fn]", "baselines names `fn`, but there is no baseline_model/fn.yaml in any config "
                       "directory; there are deepfm, dnn, fm, gbdt_fm_dnn, logistic_regression, "
                       "wide_and_deep."),
    ("baselines=[fm,dnn,fm]", "baselines lists a name twice: fm, dnn, fm."),
    ("baseline_model=fm", "baseline_model=fm is not how baselines are chosen. Name them in a list, "
                          "as in baselines=[fm]."),
    ("baselines=[fm] baseline_overrides.dnn.dropout=0.1",
     "baseline_overrides.dnn: `dnn` is not among the baselines of this run: fm."),
    ("student_overrides.light.optimizer=[1]",
     "student_overrides.light: Cannot merge DictConfig with ListConfig."),
    ("baselines=[fm] baseline_overrides.fm=3",
     "baseline_overrides.fm must be baseline_overrides.fm.KEY=VALUE, got 3."),
    ("baseline_overrides=3",
     "baseline_overrides must be baseline_overrides.NAME.KEY=VALUE, got 3."),
    ("baselines=[fm] baseline_overrides.fm.liner=true",
     "baseline_model/fm.liner is not known; known are hidden_units, activation, dropout, linear, "
     "interactions, deep, optimizer, gbdt."),
    ("baselines=[dnn] baseline_overrides.dnn.dropout=1",
     "baseline_model/dnn.dropout must lie in [0, 1), got 1.0."),
    ("baselines=[dnn] baseline_overrides.dnn.deep=wide",
     "baseline_model/dnn.deep must be one of fields, interactions, both, none, got 'wide'."),
    ("baselines=[deepfm] baseline_overrides.deepfm.deep=interactions",
     "baseline_model/deepfm.deep is interactions, but there is no interaction layer that the "
     "MLP could read."),
    ("baselines=[fm] baseline_overrides.fm.hidden_units=[8]",
     "baseline_model/fm.hidden_units must be [] where deep is none, got [8]."),
    ("baselines=[logistic_regression] baseline_overrides.logistic_regression.linear=false",
     "baseline_model/logistic_regression reads nothing: deep is none, linear is false"),
    ("baselines=[fm] baseline_overrides.fm.interactions.fm._target_=dualdnn.layers.fm.Nothing",
     "baseline_model/fm.interactions.fm: "),
    ("baselines=[fm] baseline_overrides.fm.optimizer.table.l2=-1",
     "baseline_model/fm.optimizer.table.l2 must be >= 0, got -1.0."),
    ("baselines=[fm] baseline_overrides.fm.optimizer.teacher.learning_rate=0",
     "baseline_model/fm.optimizer.teacher.learning_rate must be > 0, got 0.0."),
    ("baselines=[fm] baseline_overrides.fm.optimizer.student.learning_rate=1",
     "baseline_model/fm.optimizer.student is not known; known are table, teacher."),
    ("baselines=[gbdt_fm_dnn] baseline_overrides.gbdt_fm_dnn.gbdt.trees=0",
     "baseline_model/gbdt_fm_dnn.gbdt.trees must be >= 1, got 0."),
    ("baselines=[gbdt_fm_dnn] baseline_overrides.gbdt_fm_dnn.gbdt.depth=3",
     "baseline_model/gbdt_fm_dnn.gbdt.depth is not known; known are trees, leaves, learning_rate, "
     "least_share, patience, most_categories, threads."),
    ("+published.baseline_latency_ratio=[3.5,2.5]",
     "published.baseline_latency_ratio must be the lowest and the highest figure, such as "
     "[2.5, 3.5], got [3.5, 2.5]."),
    # --- students ---
    ("students=light", "students must be a list of names such as [light,tiny], got 'light'."),
    ("students=3", "students must be a list of names such as [light,tiny], got 3."),
    ("students=[3]", "students must be a list of names such as [light,tiny], got [3]."),
    ("students=[ligth]", "students names `ligth`, but there is no student/ligth.yaml in any "
                         "config directory; there are light, same_mlp, tiny."),
    ("students=[tiny,light,tiny]", "students lists a name twice: tiny, light, tiny."),
    ("students=[tiny] student=tiny", "student=tiny and students=[tiny] are both given."),
    ("students=[tiny] student.dropout=0.3",
     "student.* changes the student `light` of student=NAME, but students=[tiny] is given."),
    ("student_overrides.tiny.dropout=0.1",
     "student_overrides.tiny: `tiny` is not among the students of this run: light."),
    ("students=[] student_overrides.tiny.dropout=0.1",
     "student_overrides.tiny: `tiny` is not among the students of this run: none."),
    ("student_overrides.light=3",
     "student_overrides.light must be student_overrides.light.KEY=VALUE, got 3."),
    ("student_overrides=3",
     "student_overrides must be student_overrides.NAME.KEY=VALUE, got 3."),
    ("student_overrides.light.droput=0.1",
     "student/light.droput is not known; known are hidden_units, activation, dropout, linear, "
     "fm, scheme, extra_fields, distillation, optimizer."),
    ("student_overrides.light.dropout=much",
     "student/light.dropout must be a finite number, got 'much'."),
    ("student.dropout=1", "student/light.dropout must lie in [0, 1), got 1.0."),
    ("student.hidden_units=[128,0]", "student/light.hidden_units must be >= 1 each"),
    ("student.hidden_units=64", "student/light.hidden_units must be a list, got 64."),
    ("student.activation=relo",
     "student/light.activation must be a Keras activation such as relu, got 'relo'."),
    ("student_overrides.light.optimizer.clip_norm=0",
     "student/light.optimizer.clip_norm must be > 0 or null, got 0.0."),
    ("controls=[alone,together]",
     "controls must be a list out of alone, shared_label_only, got ['alone', 'together']."),
    ("controls=alone", "controls must be a list out of alone, shared_label_only, got 'alone'."),
    ("controls=[alone,alone]", "controls lists a name twice: alone, alone."),
    # --- schemes ---
    ("scheme=two_stages", "scheme must be one of co_training, two_stage, two_stage_hints, "
                          "two_stage_own_embedding, feature_transfer, rocket_launching, alone, "
                          "got 'two_stages'."),
    ("scheme=null", "scheme must be one of co_training, two_stage,"),
    ("student.scheme=none", "student/light.scheme must be one of co_training, two_stage,"),
    ("student.scheme=[alone]", "student/light.scheme must be one of co_training, two_stage,"),
    ("scheme=two_stage student_overrides.light.distillation.hint_weight=0.1",
     "student/light.distillation.hint_weight: scheme two_stage has no hint loss, only label, "
     "soft_label, logit. Remove it, or choose another scheme for this student."),
    ("student_overrides.light.scheme=feature_transfer "
     "student_overrides.light.distillation.soft_label_weight=1",
     "student/light.distillation.soft_label_weight: scheme feature_transfer has no soft_label "
     "loss, only label."),
    ("scheme=alone student_overrides.light.distillation.schedule.temperature.shape=linear",
     "student/light.distillation.schedule.temperature: scheme alone has no schedule of it"),
    ("scheme=two_stage distillation.stop_gradient.embedding=false",
     "distillation.stop_gradient must be left at true under scheme two_stage, which starts when "
     "the teacher has finished: there is nothing to move."),
    ("scheme=alone distillation.label_weight=0",
     "distillation: scheme alone has label loss only, and its weight is 0"),
    ("students=[light,tiny] student_overrides.light.scheme=rocket_launching",
     "student light moves the teacher or its embedding (rocket_launching, or a stop_gradient of "
     "false), so tiny (co_training) would not see the clean teacher."),
    ("students=[light,tiny,same_mlp] scheme=rocket_launching "
     "student_overrides.light.scheme=two_stage_own_embedding "
     "student_overrides.tiny.scheme=feature_transfer",
     "student same_mlp moves the teacher or its embedding (rocket_launching, or a stop_gradient of "
     "false), so light (two_stage_own_embedding), tiny (feature_transfer) would not see"),
    ("students=[light,tiny] student_overrides.tiny.distillation.stop_gradient.teacher=false",
     "student tiny moves the teacher or its embedding"),
    ("student.extra_fields=[item_id]",
     "student/light.extra_fields needs scheme feature_transfer, got co_training, whose students "
     "read all fields in one embedding."),
    ("scheme=feature_transfer student.extra_fields=[item]",
     "student/light.extra_fields names `item`, which is not a field of the schema; fields are "
     "user_id, item_id,"),
    ("scheme=feature_transfer student.extra_fields=[item_id,item_id]",
     "student/light.extra_fields lists a name twice: item_id, item_id."),
    ("scheme=feature_transfer student.extra_fields=item_id",
     "student/light.extra_fields must be a list of names of fields, got 'item_id'."),
    ("scheme=feature_transfer student.extra_fields=[user_mean_label] window=random_fraction",
     "student/light.extra_fields names `user_mean_label`, a label statistic, which this window "
     "drops. Leave it out, or choose a window that follows time."),
    # --- distillation ---
    ("distillation.temperature=0", "distillation.temperature must lie in [0.01, 1000], got 0.0."),
    ("distillation.temperature=.nan", "distillation.temperature must be a finite number"),
    ("distillation.label_weight=-1", "distillation.label_weight must be >= 0, got -1.0."),
    ("distillation.label_weight=0 distillation.soft_label_weight=0 distillation.hint_weight=0",
     "distillation: every weight is 0, so the student would learn nothing."),
    ("distillation.hint_weight=1 distillation.hints=[]",
     "distillation.hint_weight is 1 but distillation.hints is empty."),
    ("distillation.hint_weight=1 distillation.hints=[[-1,7]]",
     "distillation.hints names student layer 7, but the student's MLP has 2 hidden layers."),
    ("distillation.hint_weight=1 distillation.hints=[[5,-1]]",
     "distillation.hints names teacher layer 5, but the teacher's MLP has 2 hidden layers."),
    ("distillation.logit_loss=cosine",
     "distillation.logit_loss must be one of squared, z_scored, got 'cosine'."),
    ("distillation.hint_loss=l1", "distillation.hint_loss must be one of mse, cosine, got 'l1'."),
    ("distillation.schedule.label_weight.shape=step",
     "distillation.schedule.label_weight.shape must be one of constant, warm_up, linear, cosine, "
     "stop, got 'step'."),
    ("distillation.schedule.soft_label_weight.shape=warm_up",
     "distillation.schedule.soft_label_weight.start is missing"),
    ("distillation.schedule.temperature.shape=linear",
     "distillation.schedule.temperature.initial must be > 0, got 0: a temperature is never 0."),
    ("student_overrides.light.distillation.temperature=-2",
     "student/light.distillation.temperature must lie in [0.01, 1000], got -2.0."),
    # --- teacher ---
    ("teacher.dropout=1.5", "teacher.dropout must lie in [0, 1), got 1.5."),
    ("teacher.linear=1", "teacher.linear must be true or false, got 1."),
    ("+teacher.interactions.cin.foo=1",
     "teacher.interactions.cin: CompressedInteractionNetwork.__init__() got an unexpected keyword "
     "argument 'foo'"),
    ("teacher.interactions.cin.layer_sizes=[0]",
     "teacher.interactions.cin: `layer_sizes` of the CIN must be one or more positive integers"),
    ("teacher.interactions.cin._target_=dualdnn.layers.cin.Nothing",
     "teacher.interactions.cin: Error loading 'dualdnn.layers.cin.Nothing': ModuleNotFound"),
    ("teacher.interactions.cin._target_=builtins.dict",
     "teacher.interactions.cin._target_ 'builtins.dict' must be a Keras layer."),
    ("experiment=iqiyi teacher=dcn",
     "teacher.interactions.cin must be a mapping with _target_, got {'layer_sizes'"),
    ("embedding.dim=0", "embedding.dim must be >= 1, got 0."),
    ("embedding=16", "embedding must be a mapping, got 16."),
    # --- training ---
    ("training.epochs=abc training.consolidation_epochs=1",
     "training.epochs must be a whole number, got 'abc'."),
    ("training.epochs=0", "training.epochs must be >= 1, got 0."),
    ("training.consolidation_epochs=-1",
     "training.consolidation_epochs must be >= 0, got -1. Use 0 to end with the teacher."),
    ("training.batch_size=1.5", "training.batch_size must be a whole number, got 1.5."),
    ("training.monitor=f1", "training.monitor must be one of log_loss, auc, got 'f1'."),
    ("training.deterministic=yes_please",
     "training.deterministic must be true or false, got 'yes_please'."),
    ("seed=-1", "seed must be a whole number >= 0, got -1."),
    ("seed=true", "seed must be a whole number >= 0, got True."),
    ("optimizer.teacher.clip_norm=0", "optimizer.teacher.clip_norm must be > 0 or null, got 0.0."),
    ("optimizer.student.learning_rate=0", "optimizer.student.learning_rate must be > 0, got 0.0."),
    ("optimizer.table.l2=-1", "optimizer.table.l2 must be >= 0, got -1.0. Use 0 to switch it off."),
    ("optimizer.table.method=sgd",
     "optimizer.table.method must be one of adam, adagrad, rowwise_adagrad, got 'sgd'."),
    # --- window ---
    ("window=given", "window.column has no value. Give it one with window.column=VALUE."),
    ("window.train=0.9", "window.train + window.valid + window.test must be 1, got 1.1."),
    ("window=random_fraction window.seed=-3", "window.seed must be >= 0, got -3."),
    ("window=rolling window.holdout_gap=-1", "window.holdout_gap must be >= 0 days, got -1."),
    ("window=rolling window.as_of=yesterday",
     "window.as_of must be a day as YYYY-MM-DD, got 'yesterday'."),
    ("window=rolling window.days=3 window.valid_days=3",
     "window.valid_days must be smaller than window.days (3), got 3"),
    ("+window.label_delay=1", "window.label_delay is not known; known are train, valid, test."),
    ("window._target_=builtins.dict",
     "window._target_ 'builtins.dict' must be a dataclass with the methods mistakes, split."),
    ("window._target_=dualdnn.data.window.Tomorrow",
     "window._target_ 'dualdnn.data.window.Tomorrow' cannot be imported"),
    # --- data ---
    ("data.feature_lag=2d", "feature_lag must be one of 1d, 0, got '2d'."),
    ("data.lake=null", "data.lake must be a directory of dt=YYYY-MM-DD folders, got None."),
    ("data.label=null", "data.label must be a non-empty string, got None."),
    ("data.source=null data.raw=folder", "but this data has no source that reads raw files."),
    ("data.raw=nowhere", "data.raw: expected the official ml-100k.zip or a folder with"),
    ("data=movietweetings paths.state=empty",
     "data.raw: expected a folder with ratings.dat and movies.dat, or ratings.parquet and "
     "movies.parquet, got None."),
    ("+data.timezone=Asia/Shanghai", "data.timezone must be UTC in this version"),
    ("+data.tasks=[watch]", "data.tasks is not supported by this version; set it to null."),
    # --- evaluation, export, job ---
    ("evaluation.slices=[colour]",
     "evaluation.slices names `colour`, which is not a field of this run; fields are user_id,"),
    ("evaluation.slices=genres", "evaluation.slices must be a list, got 'genres'."),
    ("window=random_fraction evaluation.slices=[user_mean_label]",
     "evaluation.slices names `user_mean_label`, which is not a field of this run"),
    ("export.student=tiny",
     "export.student `tiny` is not among the students of the run: light."),
    ("export.name=a/b", "export.name must be a folder name of letters, digits, `_`, `-` and `.`, "
                        "got 'a/b'."),
    ("export.name=movielens_100k",
     "export.name `movielens_100k` is the name that accepted models are published under."),
    ("paths.outputs=null", "paths.outputs must be text, got None."),
    ("reuse=maybe", "reuse must be true or false, got 'maybe'."),
    ("resume=3", "resume must be true, false or a run folder, got 3."),
    ("resume=nowhere", "resume=nowhere: nowhere is not a run folder: it has no config.yaml."),
    ("+published.price=3", "published.price is not known; known are latency_ratio, size_ratio, "
     "baseline_latency_ratio."),
    ("+pool=3", "`pool` is not supported by this version; remove it."),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=[given for given, _ in MISTAKES])
def test_a_mistake_is_named(overrides, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        plan_of(*overrides.split())
    assert len(raised.value.mistakes) == 1
    assert list(tmp_path.iterdir()) == []  # nothing was read or written


@pytest.mark.parametrize(("overrides", "message"), [
    ("seeed=1", "Could not override 'seeed'"),
    ("student=ligth", "Could not find 'student/ligth'"),
    ("teacher=dnc", "Could not find 'teacher/dnc'"),
    ("window.label_delay=1", "Could not override 'window.label_delay'"),
    ("students=[light", "no viable alternative at input"),
])
def test_hydra_refuses_what_does_not_compose(overrides, message):
    with pytest.raises(HydraException, match=re.escape(message)):
        plan_of(*overrides.split())


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"^8 mistakes in the configuration: \(1\)") as raised:
        plan_of("students=[ligth]", "seed=-1", "training.epochs=0", "window.train=0.9",
                "optimizer.table.l2=-1", "resume=nowhere", "data.feature_lag=2d",
                "teacher.dropout=2")
    named = " ".join(raised.value.mistakes)
    for part in ("seed", "training.epochs", "window.train", "resume", "feature_lag", "teacher",
                 "ligth", "optimizer"):
        assert part in named


def test_evaluate_refuses_what_it_does_not_read(tmp_path):
    with initialize_config_dir(CONF, version_base="1.3"):
        config = composed("evaluate", ["+nonsense=3", "+evaluation.references=false", "run=nowhere",
                                       f"paths.outputs={tmp_path}"])
    with pytest.raises(ConfigError) as raised:
        evaluate.main(config)
    assert [one.partition(";")[0] for one in raised.value.mistakes[:2]] == [
        "`nonsense` is not a setting of this job", "evaluation.references is not known"]
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_for_several_students_is_named_once():
    with pytest.raises(ConfigError) as raised:
        plan_of("students=[light,tiny,same_mlp]", "distillation.temperature=0")
    assert raised.value.mistakes == ["distillation.temperature must lie in [0.01, 1000], got 0.0."]


def test_a_student_without_its_distillation_or_with_its_own():
    plan = plan_of("students=[light,tiny]", "student_overrides.tiny.distillation.temperature=4",
                   "student_overrides.tiny.optimizer.learning_rate=0.5",
                   "distillation.temperature=2")
    light, tiny = plan.students
    assert (light.objective.temperature, tiny.objective.temperature) == (2, 4)
    assert tiny.optimizer.learning_rate == 0.5
    assert tiny.optimizer.clip_norm == light.optimizer.clip_norm


def test_the_control_alone_is_tuned_as_the_teacher_is():
    plan = plan_of("optimizer.teacher.learning_rate=0.25", "student.dropout=0.125")
    alone, shared = plan.controls
    assert (alone.name, alone.owns_table, alone.optimizer.learning_rate) == (
        "light.alone", True, 0.25)
    assert (shared.name, shared.owns_table) == ("light.shared_label_only", False)
    assert shared.optimizer == plan.students[0].optimizer
    for control in plan.controls:
        assert control.network == plan.students[0].network
        assert not control.objective.distills


def test_the_students_of_a_run():
    assert [s.name for s in plan_of().students] == ["light"]
    assert [s.name for s in plan_of("student=tiny").students] == ["tiny"]
    assert [s.name for s in plan_of("students=[tiny,light]").students] == ["tiny", "light"]
    assert plan_of("students=[]").students == []
    assert plan_of("students=[]").controls == []
    assert plan_of("student=tiny", "student.dropout=0.5").students[0].network.dropout == 0.5


def test_configurations_of_the_user_are_found_everywhere(feed, monkeypatch):
    monkeypatch.chdir(feed.folder)
    mine = f"file://{feed.folder / 'conf'}"
    plan = plan_of("data=my_feed", "teacher=small", "students=[mini,light]", more=[mine])
    assert plan.lake.path == feed.folder / "feed"  # against the start folder
    assert tuple(plan.teacher.hidden_units) == (8, 4)
    mini = plan.students[0]
    # hidden_units is its own, the rest stands in student/tiny.yaml of the repository.
    assert (tuple(mini.network.hidden_units), mini.network.activation) == ((6,), "relu")
    with pytest.raises(ConfigError, match="there are light, mini, same_mlp, tiny"):
        plan_of("students=[minni]", more=[mine])


@pytest.mark.parametrize("name", ["teacher", "shared", "a.b"])
def test_a_student_has_a_name_that_towers_can_have(name, tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / f"{name}.yaml").write_text(yaml.safe_dump(
        {"defaults": ["tiny"], "dropout": 0.1}))
    with pytest.raises(ConfigError, match="a student must be named by letters, digits"):
        plan_of(f"students=['{name}']", more=[f"file://{tmp_path}"])


def test_a_layer_is_switched_off_by_null():
    teacher = plan_of("teacher=xdeepfm_dcn", "teacher.interactions.cin=null").teacher
    assert [layer.name for layer in teacher.interactions] == ["teacher_cross"]


# --- schemes ---

def test_one_run_holds_students_of_several_schemes():
    plan = plan_of(
        "students=[light,tiny,same_mlp]", "scheme=two_stage", "distillation.temperature=3",
        "optimizer.teacher.learning_rate=0.25", "student_overrides.light.scheme=co_training",
        "student_overrides.same_mlp.scheme=feature_transfer",
        "student_overrides.same_mlp.extra_fields=[item_id,age]")
    light, tiny, same = plan.students
    assert [one.scheme.name for one in plan.students] == ["co_training", "two_stage",
                                                          "feature_transfer"]
    assert (light.objective.hint_weight, light.objective.temperature) == (0.1, 3)
    assert (tiny.objective.hint_weight, tiny.objective.hints) == (0, ())
    assert (tiny.objective.soft_label_weight, tiny.objective.temperature) == (1, 3)
    assert not same.objective.distills
    assert tuple(same.extra_fields) == ("item_id", "age")
    assert {one.optimizer.learning_rate for one in plan.students} == {light.optimizer.learning_rate}
    controls = {one.name: one for one in plan.controls}
    assert len(controls) == 6
    for name, control in controls.items():
        assert not control.extra_fields
        if name.endswith(".alone"):
            assert (control.scheme.name, control.optimizer.learning_rate) == ("alone", 0.25)
        else:  # starts when its student does
            late = name != "light.shared_label_only"
            assert (control.owns_table, control.scheme.after_teacher) == (False, late)


@pytest.mark.parametrize("scheme", ["alone", "two_stage_own_embedding"])
def test_who_learns_a_whole_embedding_is_tuned_as_the_teacher_is(scheme):
    plan = plan_of(f"scheme={scheme}", "optimizer.teacher.learning_rate=0.25",
                   "optimizer.student.learning_rate=0.5")
    assert plan.students[0].owns_table
    assert plan.students[0].optimizer.learning_rate == 0.25
    own = plan_of(f"scheme={scheme}", "student_overrides.light.optimizer.learning_rate=0.125")
    assert own.students[0].optimizer.learning_rate == 0.125


@pytest.mark.parametrize("scheme", ["co_training", "two_stage", "two_stage_hints",
                                    "two_stage_own_embedding", "feature_transfer",
                                    "rocket_launching", "alone"])
@pytest.mark.parametrize("distillation", ["soft_labels_and_hints", "soft_labels", "logits",
                                          "labels_only"])
def test_a_scheme_of_the_run_goes_with_any_distillation_and_controls(scheme, distillation):
    # Two students would each move the other's teacher.
    names = ["light"] if scheme == "rocket_launching" else ["light", "tiny"]
    plan = plan_of(f"scheme={scheme}", f"distillation={distillation}",
                   f"students=[{','.join(names)}]")
    assert {one.scheme.name for one in plan.students} == {scheme}
    assert len(plan.controls) == 2 * len(names)
    listens = distillation != "labels_only" and scheme not in ("alone", "feature_transfer")
    assert [one.objective.distills for one in plan.students] == [listens] * len(names)


@pytest.mark.parametrize(("of_run", "own", "weight"), [
    ("labels_only", "temperature=4", "soft_label_weight"),
    ("labels_only", "hint_loss=cosine", "hint_weight"),
    ("labels_only", "hints=[[0,0]]", "hint_weight"),
    ("soft_labels", "logit_loss=z_scored", "logit_weight"),
    ("soft_labels", "schedule.hint_weight.shape=cosine", "hint_weight"),
])
def test_a_students_own_settings_of_a_loss_that_it_has_not(of_run, own, weight):
    given = [f"distillation={of_run}", f"+student_overrides.tiny.distillation.{own}",
             "students=[light,tiny]"]
    plan_of(*given)
    name = own.split("=")[0].removesuffix(".shape")
    with pytest.raises(ConfigError) as caught:
        plan_of(*given, begins=True)
    assert caught.value.mistakes == [
        f"student/tiny.distillation.{name} is given, but the {weight} of this student is 0. Give "
        "it one above 0, or leave this out."]
    plan_of(*given, f"+student_overrides.tiny.distillation.{weight}=0.5", begins=True)


def test_a_student_that_does_not_listen_cannot_move_the_teacher():
    given = ["distillation=labels_only", "distillation.stop_gradient.teacher=false"]
    plan_of(*given)
    with pytest.raises(ConfigError, match="no student of this run listens to the teacher"):
        plan_of(*given, begins=True)


def test_the_control_on_the_shared_embedding_is_tuned_as_students_on_it_are():
    rates = {}
    for scheme in ("two_stage", "two_stage_own_embedding"):
        plan = plan_of(f"scheme={scheme}", "optimizer.student.learning_rate=0.007",
                       "optimizer.teacher.learning_rate=0.002")
        rates[scheme] = [one.optimizer.learning_rate for one in plan.controls]
    assert list(rates.values()) == [[0.002, 0.007]] * 2


@pytest.mark.parametrize(("overrides", "unheard"), [
    ("distillation.logit_loss=z_scored", ["logit_loss"]),
    ("distillation.logit_loss=z_scored distillation.logit_weight=0.5", []),
    ("distillation.logit_loss=z_scored students=[tiny,light] "
     "+student_overrides.tiny.distillation.logit_weight=0.5", []),
    ("distillation=labels_only distillation.temperature=4 distillation.hint_loss=cosine",
     ["temperature", "hint_loss"]),
    ("scheme=rocket_launching distillation.temperature=4", ["temperature"]),
    ("distillation=labels_only distillation.schedule.soft_label_weight.shape=cosine "
     "distillation.schedule.temperature.shape=cosine distillation.schedule.temperature.initial=2 "
     "distillation.schedule.hint_weight.shape=stop "
     "distillation.schedule.hint_weight.end=0.5",
     ["schedule.soft_label_weight", "schedule.hint_weight", "schedule.temperature"]),
    # Labels that have nothing beside them have no schedule.
    ("scheme=alone distillation.schedule.label_weight.shape=warm_up "
     "distillation.schedule.label_weight.start=0.5", ["schedule.label_weight"]),
    ("distillation.temperature=4 distillation.hint_loss=cosine "
     "distillation.schedule.hint_weight.shape=cosine", []),
])
def test_settings_of_a_loss_that_no_student_has(overrides, unheard):
    given = overrides.split()
    plan_of(*given)  # a run that is there already is not refused
    # Together with whatever else is wrong.
    with pytest.raises(ConfigError) as caught:
        plan_of(*given, "training.epochs=0", begins=True)
    *found, epochs = sorted(caught.value.mistakes, key=lambda one: "training.epochs" in one)
    assert epochs.startswith("training.epochs ")
    assert [one.split(" is given")[0] for one in found] == [f"distillation.{name}"
                                                            for name in unheard]


def test_two_students_that_move_the_teacher_need_a_run_each():
    with pytest.raises(ConfigError, match="students light, tiny each move the teacher"):
        plan_of("scheme=rocket_launching", "students=[light,tiny]")


@pytest.mark.parametrize(("scheme", "weight"), [
    ("rocket_launching", "logit_weight"), ("two_stage", "soft_label_weight")])
def test_a_weight_of_zero_that_a_student_says_itself_stays_zero(scheme, weight):
    (light,) = plan_of(f"student_overrides.light.scheme={scheme}",
                       f"student_overrides.light.distillation.{weight}=0").students
    assert getattr(light.objective, weight) == 0
    assert light.objective.label_weight == 1


def test_rocket_launching_follows_logits_and_moves_the_embedding():
    (light,) = plan_of("scheme=rocket_launching").students
    objective = light.objective
    assert (objective.label_weight, objective.logit_weight) == (1.0, 0.5)
    assert (objective.soft_label_weight, objective.hint_weight) == (0, 0)
    assert (objective.stop_gradient.embedding, objective.stop_gradient.teacher) == (False, True)
    both = plan_of("students=[light,tiny]", "student_overrides.light.scheme=rocket_launching",
                   "student_overrides.tiny.scheme=alone")
    assert [one.moves_teacher for one in both.students] == [True, False]


def test_a_students_own_distillation_joins_the_runs_key_by_key():
    (light,) = plan_of(
        "distillation.schedule.hint_weight.shape=cosine",
        "student_overrides.light.distillation.schedule.soft_label_weight.shape=warm_up",
        "student_overrides.light.distillation.schedule.soft_label_weight.start=0.25",
        "student_overrides.light.distillation.logit_loss=z_scored",
        "distillation.hint_loss=cosine").students
    schedule = light.objective.schedule
    assert (schedule.soft_label_weight.shape, schedule.soft_label_weight.start) == ("warm_up", 0.25)
    assert schedule.hint_weight.shape == "cosine"
    assert schedule.label_weight.is_constant
    assert (light.objective.logit_loss, light.objective.hint_loss) == ("z_scored", "cosine")


@pytest.mark.parametrize(("names", "message"), [
    ("dwell", "names `dwell`, which is privileged: no student reads it. Leave it out."),
    ("a,b", "names every field, so nothing of the teacher would be transferred. Leave one out, or "
            "use scheme alone."),
])
def test_extra_fields_are_public_and_not_all(names, message):
    fields = ("[{name: a, kind: id}, {name: b, kind: id}, "
              "{name: dwell, kind: number, privileged: true}]")
    given = ["scheme=feature_transfer", f"data.fields={fields}", "evaluation.slices=[]"]
    with pytest.raises(ConfigError) as raised:
        plan_of(*given, f"student.extra_fields=[{names}]")
    assert raised.value.mistakes == [f"student/light.extra_fields {message}"]
    assert plan_of(*given, "student.extra_fields=[b]").students[0].extra_fields == ("b",)


def test_files_that_a_published_version_names_may_be_gone():
    with initialize_config_dir(CONF, version_base="1.3"):
        settings = resolved(composed("retrain", ["golden_requests=gone.json"]))
    settings["data"]["fields"].append({
        "name": "text", "kind": "vector", "side": "item", "file": "gone.parquet",
        "key": "item_id"})
    with pytest.raises(ConfigError) as caught:
        daily_plan_from(settings)
    named = [next(file for file in ("gone.json", "gone.parquet") if file in one)
             for one in caught.value.mistakes]
    assert sorted(named) == ["gone.json", "gone.parquet"]
    plan = daily_plan_from(settings, stored=True)
    assert (plan.golden, plan.towers.schema.fields[-1].file) == ((), "gone.parquet")
