import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import pytest

from dualdnn.distillation.objective import Objective, StopGradient
from dualdnn.distillation.schedules import Schedule, Schedules
from dualdnn.distillation.schemes import PARTS, SCHEMES

RAMP = Schedule(shape="linear")
EVERYTHING = Objective(
    label_weight=0.5, soft_label_weight=0.7, temperature=2.0, logit_weight=0.3, hint_weight=0.2,
    hints=((0, 0),), schedule=Schedules(label_weight=Schedule(shape="stop", end=0.9),
                                        soft_label_weight=RAMP, logit_weight=RAMP,
                                        hint_weight=RAMP, temperature=replace(RAMP, initial=2.0)))
HAVE = {
    "co_training": {"label", "soft_label", "logit", "hint"},
    "two_stage": {"label", "soft_label", "logit"},
    "two_stage_hints": {"label", "soft_label", "logit", "hint"},
    "two_stage_own_embedding": {"label", "soft_label", "logit"},
    "feature_transfer": {"label"},
    "rocket_launching": {"label", "logit"},
    "alone": {"label"},
}


def test_every_scheme_says_what_it_has():
    assert {name: set(scheme.parts) for name, scheme in SCHEMES.items()} == HAVE
    late = {name for name, scheme in SCHEMES.items() if scheme.after_teacher}
    assert late == {"two_stage", "two_stage_hints", "two_stage_own_embedding",
                    "feature_transfer"}
    assert {n for n, scheme in SCHEMES.items() if scheme.reads == "own"} == {
        "two_stage_own_embedding", "alone"}
    assert {n for n, scheme in SCHEMES.items() if scheme.tuned_as == "teacher"} == {
        "two_stage_own_embedding", "alone"}


@pytest.mark.parametrize("name", HAVE)
def test_a_scheme_masks_the_parts_that_it_lacks_and_leaves_the_others(name):
    scheme = SCHEMES[name]
    masked = scheme.masked(EVERYTHING)
    for part, (weight, *_) in PARTS.items():
        kept = part in HAVE[name]
        assert getattr(masked, weight) == (getattr(EVERYTHING, weight) if kept else 0.0)
        scheduled = kept and len(HAVE[name]) > 1  # labels alone have nothing to give way to
        schedule = getattr(masked.schedule, weight)
        assert schedule == (getattr(EVERYTHING.schedule, weight) if scheduled else Schedule())
    assert masked.hints == (EVERYTHING.hints if "hint" in HAVE[name] else ())
    assert masked.schedule.temperature.is_constant == ("soft_label" not in HAVE[name])
    assert masked.stop_gradient == StopGradient(embedding=name != "rocket_launching")
    assert masked.mistakes("d", 1, 1) == []
    assert scheme.mistakes(EVERYTHING, {}, "d") == []


@pytest.mark.parametrize("name", ["co_training", "two_stage_hints"])
def test_a_scheme_that_has_every_part_leaves_an_objective_as_it_is(name):
    assert SCHEMES[name].masked(EVERYTHING) == EVERYTHING


def test_where_a_mask_leaves_nothing_to_listen_to_the_schemes_own_way_stands_in():
    soft, logits = Objective(soft_label_weight=1.0), Objective(logit_weight=0.2)
    hints = Objective(hint_weight=0.1, hints=((0, 0),))
    assert SCHEMES["rocket_launching"].masked(soft).logit_weight == 0.5
    assert SCHEMES["rocket_launching"].masked(logits).logit_weight == 0.2
    for name in ("two_stage", "two_stage_own_embedding"):
        assert SCHEMES[name].masked(hints).soft_label_weight == 1.0
        assert SCHEMES[name].masked(logits).soft_label_weight == 0.0
    # Who asks for labels only gets labels only.
    for name in HAVE:
        assert not SCHEMES[name].masked(Objective()).distills


@pytest.mark.parametrize(("name", "own", "key", "part"), [
    ("two_stage", {"hint_weight": 0.1}, "hint_weight", "hint"),
    ("two_stage", {"hints": ((0, 0),)}, "hints", "hint"),
    ("two_stage_own_embedding", {"hint_loss": "cosine"}, "hint_loss", "hint"),
    ("feature_transfer", {"soft_label_weight": 1.0}, "soft_label_weight", "soft_label"),
    ("feature_transfer", {"logit_loss": "z_scored"}, "logit_loss", "logit"),
    ("rocket_launching", {"temperature": 2.0}, "temperature", "soft_label"),
    ("alone", {"logit_weight": 1.0}, "logit_weight", "logit"),
])
def test_what_a_student_itself_asks_for_is_refused_where_its_scheme_lacks_it(name, own, key, part):
    (found,) = SCHEMES[name].mistakes(EVERYTHING, own, "student/light.distillation")
    has = ", ".join(SCHEMES[name].parts)
    assert found == (f"student/light.distillation.{key}: scheme {name} has no {part} loss, only "
                     f"{has}. Remove it, or choose another scheme for this student.")
    assert SCHEMES["co_training"].mistakes(EVERYTHING, own, "d") == []


@pytest.mark.parametrize(("name", "value"), [
    ("alone", "hint_weight"), ("alone", "label_weight"), ("feature_transfer", "temperature"),
    ("two_stage", "hint_weight"), ("rocket_launching", "temperature"),
])
def test_a_schedule_of_what_a_scheme_lacks_is_refused(name, value):
    own = {"schedule": {value: {"shape": "linear"}}}
    (found,) = SCHEMES[name].mistakes(EVERYTHING, own, "d")
    assert found.startswith(f"d.schedule.{value}: scheme {name} has no schedule of it: its losses "
                            f"are {', '.join(SCHEMES[name].parts)}. Remove it")
    assert SCHEMES["co_training"].mistakes(EVERYTHING, own, "d") == []


def test_switching_off_what_is_off_is_no_mistake():
    assert SCHEMES["alone"].mistakes(EVERYTHING, {"hint_weight": 0, "logit_weight": 0.0}, "d") == []


@pytest.mark.parametrize("name", HAVE)
def test_stop_gradients_are_a_choice_of_co_training_alone(name):
    own = {"stop_gradient": {"embedding": True}}
    moving = replace(EVERYTHING, stop_gradient=StopGradient(embedding=False))
    reaching = replace(EVERYTHING, stop_gradient=StopGradient(teacher=False))
    scheme = SCHEMES[name]
    found = [scheme.mistakes(moving, {"stop_gradient": {"embedding": False}}, "d"),
             scheme.mistakes(reaching, {"stop_gradient": {"teacher": False}}, "d"),
             scheme.mistakes(EVERYTHING, own, "d")]
    refused = {"co_training": [False, False, False], "rocket_launching": [False, True, True]}
    assert [bool(one) for one in found] == refused.get(name, [True, True, False])


def test_labels_of_weight_0_leave_nothing_where_there_is_nothing_else():
    silent = Objective(label_weight=0.0, soft_label_weight=1.0)
    (found,) = SCHEMES["alone"].mistakes(silent, {}, "distillation")
    assert found == ("distillation: scheme alone has label loss only, and its weight is 0, so the "
                     "student would learn nothing.")
