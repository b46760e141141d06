import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import itertools
import math
import re
from dataclasses import replace

import pytest

from dualdnn.distillation.objective import Objective
from dualdnn.distillation.schedules import SHAPES, Schedule, Schedules

STEPS = [0.0, 0.1, 0.25, 0.4999, 0.5, 0.75, 0.9, 1.0]


def factors(**values):
    return [Schedule(**values).factor(progress) for progress in STEPS]


def test_a_constant_is_one():
    assert factors() == [1.0] * len(STEPS)
    assert Schedule().is_constant


def test_a_warm_up_waits_for_the_teacher_and_a_stop_ends():
    assert factors(shape="warm_up", start=0.5) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert factors(shape="stop", end=0.5) == [1, 1, 1, 1, 0, 0, 0, 0]
    assert factors(shape="stop", end=1.0) == [1, 1, 1, 1, 1, 1, 1, 0]


def test_a_linear_ramp_is_a_straight_line_between_its_ends():
    assert factors(shape="linear") == pytest.approx(STEPS)
    found = factors(shape="linear", start=0.25, end=0.75, initial=4.0, final=2.0)
    expected = [4, 4, 4, 4 - 4 * (0.4999 - 0.25), 3, 2, 2, 2]
    assert found == pytest.approx(expected)


def test_a_cosine_ramp_is_half_a_wave():
    found = factors(shape="cosine", start=0.1, end=0.9, initial=1.0, final=0.2)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * min(max((p - 0.1) / 0.8, 0), 1))) / 2
                for p in STEPS]
    assert found == pytest.approx(expected)
    # Flat at both ends, steepest in the middle.
    up = [Schedule(shape="cosine").factor(i / 100) for i in range(101)]
    rises = [b - a for a, b in itertools.pairwise(up)]
    assert max(rises) == pytest.approx(math.pi / 200, rel=1e-3)
    assert max(rises[0], rises[-1]) < 0.001


@pytest.mark.parametrize(("values", "message"), [
    ({"shape": "sine"}, "s.shape must be one of constant, warm_up, linear, cosine, stop, got "
                        "'sine'."),
    ({"start": 0.5}, "s.start is 0.5, but the shape constant has no start. Set it to null."),
    ({"shape": "warm_up"}, "s.start is missing: the share of the steps at which the shape warm_up "
                           "switches."),
    ({"shape": "stop"}, "s.end is missing"),
    ({"shape": "warm_up", "start": 0.1, "final": 2.0},
     "s.final is 2, but the shape warm_up has no final; it has start. Set it to null."),
    ({"shape": "warm_up", "start": 1.0}, "s.start must lie in [0, 1), got 1."),
    ({"shape": "stop", "end": 0.0}, "s.end must lie in (0, 1], got 0."),
    ({"shape": "stop", "end": 1.0}, "s.end must be below 1 for the shape stop, which is 0 from"),
    ({"shape": "linear", "start": 0.5, "end": 0.5},
     "s.start must be smaller than s.end (0.5), got 0.5."),
    ({"shape": "cosine", "initial": -1.0}, "s.initial must be >= 0, got -1."),
    ({"shape": "cosine", "final": -1.0}, "s.final must be >= 0, got -1."),
])
def test_mistakes_name_the_setting_and_the_value(values, message):
    (found,) = Schedule(**values).mistakes("s")
    assert re.match(re.escape(message), found)


def test_every_shape_is_tried_here_and_may_be_right():
    given = {"constant": {}, "warm_up": {"start": 0.2}, "stop": {"end": 0.2},
             "linear": {"initial": 2.0, "final": 1.0}, "cosine": {"start": 0.2, "end": 0.7}}
    assert set(given) == set(SHAPES)
    for shape, values in given.items():
        assert Schedule(shape=shape, **values).mistakes("s") == []


@pytest.mark.parametrize(("schedule", "message"), [
    (Schedule(shape="warm_up", start=0.5), "d.temperature.shape must be constant, linear or "
                                           "cosine, got 'warm_up': a temperature is never 0."),
    (Schedule(shape="linear"), "d.temperature.initial must be > 0, got 0: a temperature is never"),
    (Schedule(shape="linear", initial=2.0, final=0.0), "d.temperature.final must be > 0, got 0"),
])
def test_a_temperature_is_never_zero(schedule, message):
    (found,) = Schedules(temperature=schedule).mistakes("d")
    assert re.match(re.escape(message), found)
    annealed = Schedule(shape="linear", initial=4.0)
    assert Schedules(temperature=annealed).mistakes("d") == []


def test_a_stretch_without_any_loss_is_refused():
    late, early = Schedule(shape="warm_up", start=0.6), Schedule(shape="stop", end=0.4)
    both = Objective(soft_label_weight=1.0,
                     schedule=Schedules(label_weight=early, soft_label_weight=late))
    (found,) = both.mistakes("d", 1, 1)
    assert found.startswith("d.schedule: every weight is 0 at progress 0.5, so the student would "
                            "learn nothing there.")
    alone = Objective(schedule=Schedules(label_weight=late))
    assert "every weight is 0 at progress 0.3," in alone.mistakes("d", 1, 1)[0]
    apart = Objective(soft_label_weight=1.0, schedule=Schedules(label_weight=early))
    assert apart.mistakes("d", 1, 1) == []
    ramp = Objective(label_weight=0.0, soft_label_weight=1.0,
                     schedule=Schedules(soft_label_weight=Schedule(shape="linear")))
    assert ramp.mistakes("d", 1, 1) == []  # 0 at its very first step alone


def test_an_objective_names_what_changes_and_multiplies_it():
    ramp = Schedule(shape="linear", initial=4.0, final=1.0)
    objective = Objective(soft_label_weight=0.5, temperature=3.0, schedule=Schedules(
        soft_label_weight=ramp, temperature=ramp, hint_weight=ramp))
    # The hints are off, whatever their schedule says.
    assert objective.scheduled == ["soft_label_weight", "temperature"]
    assert Objective(schedule=Schedules(temperature=ramp)).scheduled == []
    assert objective.value_at("soft_label_weight", 0.5) == pytest.approx(0.5 * 2.5)
    assert objective.value_at("temperature", 0.0) == pytest.approx(12)
    assert objective.value_at("label_weight", 0.7) == 1.0


def test_consolidation_is_the_end_of_the_schedules_without_labels_and_hints():
    objective = Objective(
        label_weight=0.5, soft_label_weight=0.8, temperature=2.0, logit_weight=0.3,
        logit_loss="z_scored", hint_weight=0.1, hints=((-1, -1),), schedule=Schedules(
            soft_label_weight=Schedule(shape="linear", final=0.5),
            logit_weight=Schedule(shape="stop", end=0.9),
            temperature=Schedule(shape="cosine", initial=3.0, final=2.0)))
    assert objective.consolidated() == Objective(
        label_weight=0.0, soft_label_weight=0.4, temperature=4.0, logit_loss="z_scored")
    assert Objective(hint_weight=1.0, hints=((0, 0),)).consolidated() is None
    scaled = Objective(logit_weight=1.0, logit_loss="z_scored")
    assert scaled.consolidated() is None  # nothing would hold the student's mean and scale
    assert replace(scaled, soft_label_weight=0.5).consolidated().logit_loss == "z_scored"
    ended = Schedules(soft_label_weight=Schedule(shape="stop", end=0.9))
    assert Objective(soft_label_weight=1.0, schedule=ended).consolidated() is None
