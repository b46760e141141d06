"""Teachers and pools that are configured wrongly: named before data is read."""

import json
from pathlib import Path

import pytest
from hydra import initialize_config_dir

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.errors import ConfigError
from pipelines.compose import composed, resolved
from pipelines.daily_plan import daily_plan_from
from pipelines.plan import plan_from
from pipelines.teachers import absent_members

CONF = str(Path(__file__).resolve().parents[2] / "conf")


def settings_of(*overrides, job="train"):
    with initialize_config_dir(CONF, version_base="1.3"):
        return resolved(composed(job, list(overrides)))


def plan_of(*overrides):
    return plan_from(settings_of(*overrides))


MISTAKES = [
    ("teacher.gate=best", "teacher.gate must be one of mean, learned, got 'best'."),
    ("+teacher.interactions={}", "teacher.interactions is not known of a pool; known are towers, "
                                 "gate, weights, hint_from, linear, hidden_units, activation, "
                                 "dropout."),
    ("teacher.towers=3", "teacher.towers must be a mapping of towers by name, got 3."),
    ("teacher.towers.deepfm=3", "teacher.towers.deepfm must be a mapping, got 3."),
    ("+teacher.towers.deepfm.embedding=mine",
     "teacher.towers.deepfm.embedding must be shared or own, got 'mine'."),
    ("+teacher.towers.deepfm.gate=mean",
     "teacher.towers.deepfm.gate is not known; known are linear, hidden_units, activation, "
     "dropout, interactions, embedding, or run, tower and scores of a finished model."),
    ("teacher.towers.deepfm.hidden_units=[0]",
     "teacher.towers.deepfm.hidden_units must be >= 1 each, got [0]."),
    ("teacher.towers.dcn_v2.interactions.cross.num_layers=0",
     "teacher.towers.dcn_v2.interactions.cross: `num_layers` of the cross network must be a "
     "positive integer, got 0."),
    ("+teacher.towers.teacher={}", "a tower must be named by letters, digits, `_` and `-`, and not "
                                   "`teacher`."),
    ("+teacher.towers={a.b: {}}", "teacher.towers.a.b: a tower must be named by letters"),
    ("teacher.weights=[1,2]", "teacher.weights must be a mapping, got [1, 2]."),
    ("+teacher.weights={xdeepfm: nan, dcn_v2: 1, deepfm: 1}",
     "teacher.weights.xdeepfm must be a finite number, got nan."),
    ("teacher.hint_from=[xdeepfm]", "teacher.hint_from must be text, got ['xdeepfm']."),
    ("~teacher.gate", "teacher.gate is missing."),
    ("+teacher.weights={xdeepfm: 1, dcn_v2: 1}",
     "teacher: weights must name each member once: xdeepfm, dcn_v2, deepfm; got xdeepfm, dcn_v2."),
    ("+teacher.weights={xdeepfm: 1, dcn_v2: 1, deepfm: 1} teacher.gate=learned",
     "teacher has fixed weights and a learned gate."),
    ("teacher.hint_from=plain", "teacher: hint_from names `plain`, which is no tower that learns; "
                                "those are xdeepfm, dcn_v2, deepfm."),
    ("teacher.towers.dcn_v2=null teacher.towers.deepfm=null +teacher.towers.xdeepfm.embedding=own",
     "teacher has no tower that learns on the shared embedding, which the students read."),
    ("+teacher.towers.earlier={run: a, scores: b}",
     "teacher.towers.earlier must have either run, the folder of a finished run, or scores, a "),
    ("+teacher.towers.earlier={run: null}", "teacher.towers.earlier must have either run"),
    ("+teacher.towers.earlier={run: a, dropout: 0.1}",
     "teacher.towers.earlier.dropout is not known; known are run, tower, scores."),
]


@pytest.mark.parametrize(("distillation", "refused"), [
    ("soft_labels", True), ("logits", True), ("labels_only", False)])
def test_a_student_cannot_move_towers_behind_a_learned_gate(distillation, refused):
    given = ["teacher=pool", "student=tiny", f"distillation={distillation}",
             "distillation.stop_gradient.teacher=false"]
    plan_of(*given, "teacher.gate=mean")
    if not refused:
        plan_of(*given, "teacher.gate=learned")
        return
    with pytest.raises(ConfigError) as raised:
        plan_of(*given, "teacher.gate=learned", "seed=-1")
    seed, gate = raised.value.mistakes
    assert seed.startswith("seed ")
    assert gate.startswith("student tiny has a stop_gradient.teacher of false, but with "
                           "teacher.gate=learned its soft-label and logit losses reach no tower")


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=[one for one, _ in MISTAKES])
def test_a_pool_is_refused(overrides, message):
    with pytest.raises(ConfigError) as refused:
        plan_of("teacher=pool", *_split(overrides))
    assert message in str(refused.value)


def _split(overrides):
    """At blanks outside of braces."""
    parts, depth = [""], 0
    for sign in overrides:
        depth += (sign == "{") - (sign == "}")
        if sign == " " and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def test_towers_take_from_the_pool_what_they_do_not_say():
    plan = plan_of("teacher=pool", "teacher.hidden_units=[7,5]", "teacher.dropout=0.25",
                   "+teacher.towers.small={hidden_units: [3], embedding: own, linear: false}",
                   "+teacher.towers.like_the_pool={}", "teacher.hint_from=small").teacher
    assert list(plan.towers) == ["xdeepfm", "dcn_v2", "deepfm", "small", "like_the_pool"]
    small = plan.towers["small"].network
    assert (tuple(small.hidden_units), small.dropout, small.linear) == ((3,), 0.25, False)
    for name in ("xdeepfm", "dcn_v2", "deepfm", "like_the_pool"):
        like = plan.towers[name].network
        assert (tuple(like.hidden_units), like.dropout, like.linear) == ((7, 5), 0.25, True)
    assert plan.own_embeddings == {"small": False}
    assert tuple(plan.hidden_units) == (3,)


def test_the_shared_embedding_has_first_order_weights_where_a_tower_adds_them():
    off = [f"teacher.towers.{name}.linear=false" for name in ("xdeepfm", "dcn_v2", "deepfm")]
    assert plan_of("teacher=pool", *off[:2]).teacher.linear
    assert not plan_of("teacher=pool", *off).teacher.linear
    own = "+teacher.towers.more={embedding: own}"
    assert not plan_of("teacher=pool", *off, own).teacher.linear


def test_paths_of_finished_members_are_taken_from_where_the_job_is_started():
    towers = settings_of("teacher=pool", "+teacher.towers.a={run: outputs/x}",
                         "+teacher.towers.b={scores: s.parquet}")["teacher"]["towers"]
    assert towers["a"]["run"] == str(Path.cwd() / "outputs/x")
    assert towers["b"]["scores"] == str(Path.cwd() / "s.parquet")


def test_finished_members_must_be_there_for_a_new_run(tmp_path):
    def absences(**member):
        return absent_members({"towers": {"x": {"hidden_units": [4]}, "earlier": member}})

    scores = str(tmp_path / "s.parquet")
    assert absences(scores=scores) == [
        f"teacher.towers.earlier.scores: file {scores} does not exist. Check the path."]
    (tmp_path / "s.parquet").touch()
    assert absences(scores=scores) == []
    run = str(tmp_path)
    where = f"teacher.towers.earlier.run must be the folder of a finished training run, but {run} "
    assert absences(run=run) == [f"{where}holds no report.json."]
    report = {"job": "train", "status": "failed", "towers": ["teacher", "light"]}

    def note(**changes):
        (tmp_path / "report.json").write_text(json.dumps({**report, **changes}))

    note()
    assert absences(run=run) == [f"{where}is a run of train, failed."]
    note(status="done", job="evaluate")
    assert absences(run=run) == [f"{where}is a run of evaluate, done."]
    note(status="done")
    assert absences(run=run) == absences(run=run, tower="light") == []
    assert absences(run=run, tower="tiny") == [
        f"teacher.towers.earlier.tower names `tiny`, which is no tower of {run}; it has teacher, "
        "light."]
    note(status="done", towers=["teacher", "baseline.fm", "baseline.trees"],
         baselines={"fm": {"auc": 0.5}, "trees": {"auc": 0.5, "gbdt": {"trees": 100}}})
    assert absences(run=run, tower="baseline.fm") == []
    assert absences(run=run, tower="baseline.trees") == [
        "teacher.towers.earlier.tower names `baseline.trees`, which reads leaves of trees that "
        "only its own run finds. Give a file of its scores, or another tower."]
    (tmp_path / "report.json").write_text(json.dumps(
        {"job": "train", "status": "done", "scheme_comparison": {}}))
    assert absences(run=run) == [f"{where}is a comparison of schemes; the runs that it is made of "
                                 "stand in its report.md."]


def test_finished_members_are_refused_in_daily_jobs_by_name():
    settings = settings_of("teacher=pool", "+teacher.towers.earlier={scores: s.parquet}",
                           job="retrain")
    with pytest.raises(ConfigError, match=r"teacher\.towers\.earlier is a finished model, which "
                                          "cannot go on in a daily job"):
        daily_plan_from(settings)
    assert daily_plan_from(settings_of("teacher=pool", job="retrain")).towers.teacher.is_pool
