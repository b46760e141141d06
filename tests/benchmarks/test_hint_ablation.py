import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest

from benchmarks.quality.hint_ablation import (
    TEACHER,
    WIDTHS,
    Ablation,
    Measured,
    arms_of,
    confirmed_arms,
    context_pairs,
    deep_arms,
    differences_table,
    hint_pairs,
    metrics_table,
    overrides_of,
)
from benchmarks.quality.in_process import checked_plan

ARMS = arms_of(list(WIDTHS))


@pytest.fixture(scope="module")
def ablation():
    """900 rows of 30 users with known probabilities, two towers that differ in their noise."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(0.05, 0.95, 900)
    logits = np.log(truth / (1 - truth))
    return Ablation(
        labels=(rng.random(900) < truth).astype(np.uint8), truth=truth,
        groups=np.repeat(np.arange(30), 30),
        logits={TEACHER: logits + rng.normal(0, 0.1, (6, 900)),
                "worse": logits + rng.normal(0, 1.0, (6, 900))},
    )


def test_each_arm_is_the_student_that_its_name_says():
    plan, _ = checked_plan(
        [*overrides_of(regime="pairwise", rows=8000, train_days=26, state="state"),
         "controls=[]"], {arm.name: arm.config() for arm in ARMS})
    by_name = {student.name: student for student in plan.students}
    assert len(by_name) == len(ARMS) == 22
    assert by_name["light_soft"].objective.soft_label_weight == 1.0
    assert by_name["light_soft"].objective.hint_weight == 0.0
    assert not by_name["units8_labels"].objective.distills
    assert by_name["units8_labels"].network.hidden_units == (8,)
    hinted = by_name["light_soft_all_0-1"].objective
    assert (hinted.hint_weight, [list(pair) for pair in hinted.hints]) == (0.1, [[0, 0], [1, 1]])
    instead = by_name["units16_labels_last_1"].objective
    assert (instead.soft_label_weight, instead.hint_weight) == (0.0, 1.0)


@pytest.mark.parametrize(("question", "hinted"), [
    ("last_layer", "deep16_soft_last_0-1"), ("few_passes", "deep16_soft_all_0-1"),
])
def test_a_question_is_one_pair_of_the_deep_family(question, hinted):
    arms = confirmed_arms(question)
    assert [one for one in deep_arms() if one in arms] == arms
    assert hint_pairs(arms) == [(hinted, "deep16_soft")]
    assert len(context_pairs(arms)) == 4


def test_the_deep_family_is_one_student_with_and_without_hints():
    arms = deep_arms()
    plan, _ = checked_plan(
        [*overrides_of(regime="third_order", rows=8000, train_days=26, state="state"),
         "controls=[]"], {arm.name: arm.config() for arm in arms})
    found = {one.name: one.objective for one in plan.students}
    assert {one.network.hidden_units for one in plan.students} == {(16, 16, 16, 16)}
    assert [pair for pair, _ in hint_pairs(arms)] == [
        "deep16_soft_last_0-1", "deep16_soft_last_1", "deep16_soft_all_0-1",
        "deep16_soft_last_cosine_0-1"]
    assert {plain for _, plain in hint_pairs(arms)} == {"deep16_soft"}
    assert [list(pair) for pair in found["deep16_soft_all_0-1"].hints] == [[0, 1], [1, 3]]
    assert found["deep16_soft_last_cosine_0-1"].hint_loss == "cosine"


def test_pairs_differ_in_the_hints_alone():
    configs = {arm.name: arm.config() for arm in ARMS}
    pairs = hint_pairs(ARMS)
    assert len(pairs) == sum(bool(arm.hints) for arm in ARMS) == 16
    for hinted, plain in pairs:
        first, second = configs[hinted], configs[plain]
        assert first["hidden_units"] == second["hidden_units"]
        assert (first["distillation"]["soft_label_weight"]
                == second["distillation"]["soft_label_weight"])
        assert first["distillation"]["hint_weight"] > 0 == second["distillation"]["hint_weight"]


def test_the_context_names_towers_that_are_trained():
    trained = {TEACHER, f"{ARMS[0].name}.alone", *(arm.name for arm in ARMS)}
    assert {name for pair in context_pairs(ARMS) for name in pair} <= trained


def test_fewer_days_of_training_leave_the_tested_days_as_they_are():
    few, many = (checked_plan(overrides_of(regime="pairwise", rows=8000, train_days=days,
                                           state="state"))[0] for days in (7, 26))
    assert (few.window.days, many.window.days) == (9, 28)
    assert few.window.holdout_days == many.window.holdout_days == 3
    assert few.lake.path == many.lake.path


def test_the_expected_log_loss_is_that_over_the_labels_that_could_have_been(ablation):
    found = {row["tower"]: row for row in Measured(ablation, resamples=50).metrics()}
    probabilities = 1 / (1 + np.exp(-ablation.logits["worse"]))
    by_hand = -(ablation.truth * np.log(probabilities)
                + (1 - ablation.truth) * np.log(1 - probabilities)).mean()
    assert found["worse"]["log_loss"] == pytest.approx(by_hand, abs=1e-12)
    # Nothing is below the truth.
    assert found["truth"]["log_loss"] < found[TEACHER]["log_loss"] < found["worse"]["log_loss"]
    assert found[TEACHER]["to_teacher"] == 0


def test_differences_are_corrected_and_their_sign_is_that_of_the_first(ablation):
    measured = Measured(ablation, resamples=200)
    (row, back) = measured.differences([("worse", TEACHER), (TEACHER, "worse")])
    assert row["auc"]["high"] < 0 < row["log_loss"]["low"]
    assert row["auc"]["value"] == pytest.approx(-back["auc"]["value"])
    assert row["auc"]["p_holm"] == pytest.approx(2 * row["auc"]["p"])
    assert f"| worse − {TEACHER} | -" in differences_table([row])
    assert metrics_table(measured.metrics()).count("\n") == 4
