import dataclasses
import json

import numpy as np
import pytest

from dualdnn.errors import ConfigError, DataError
from dualdnn.evaluation.gate import (
    Candidate,
    Decision,
    GateSettings,
    GoldenRequest,
    Holdout,
    decide,
)
from dualdnn.evaluation.gate_limits import CalibrationError, ScoreChange
from dualdnn.evaluation.golden import read_golden_requests
from dualdnn.evaluation.metrics import evaluate_scores, sigmoid

ROWS = 1600
NAMES = ("finite", "measured", "holdout", "label_rate", "beats_constant", "auc_drop",
         "log_loss_rise", "calibration", "ece", "oov", "score_change", "reference_change",
         "latency", "size", "parity", "golden")


def version(labels, logits, **changes):
    """A candidate in order, whose teacher scores as its student does."""
    towers = {"teacher": logits, "student": logits}
    histogram = np.histogram(sigmoid(logits), bins=20, range=(0, 1))[0].tolist()
    given = {
        "logits": towers,
        "metrics": {name: evaluate_scores(labels, z) for name, z in towers.items()
                    if np.isfinite(z).all()},
        "reference": {"probability": histogram,
                      "fields": {"user": {"oov": 0.1}, "age": {"oov": 0.0}}},
        "latency": {1: 1e-4, 500: 1e-3}, "bytes": 1000, "parity_max_abs": 1e-8,
        "golden": {"home": 0.2},
    }
    return Candidate(**{**given, **changes})


@pytest.fixture
def truth():
    """Logits whose probabilities are true."""
    return np.random.default_rng(0).normal(size=ROWS) - 1.5


@pytest.fixture
def holdout(truth):
    rng = np.random.default_rng(1)
    labels = (rng.random(ROWS) < sigmoid(truth)).astype(np.float32)
    item = rng.random(ROWS) < 0.3
    return Holdout(labels=labels, groups=np.arange(ROWS) // 16,
                   slices={"new_item": item, "known_item": ~item, "rare": np.arange(ROWS) < 50},
                   training_rows=50_000, training_positives=round(50_000 * labels.mean()),
                   golden=[GoldenRequest(name="home", request={"user": "ann"}, low=0.1,
                                         high=0.4)])


@pytest.fixture
def champion(truth, holdout):
    noise = np.random.default_rng(2).normal(size=ROWS)
    return version(holdout.labels, truth + 0.05 * noise)


@pytest.fixture
def challenger(truth, holdout):
    noise = np.random.default_rng(3).normal(size=ROWS)
    return version(holdout.labels, truth + 0.05 * noise)


def failed(decision):
    return [(one.rule, one.subject) for one in decision.failed]


def worse_student(candidate, holdout, logits):
    """The same version with another student."""
    return dataclasses.replace(
        candidate, logits={**candidate.logits, "student": logits},
        metrics={**candidate.metrics, "student": evaluate_scores(holdout.labels, logits)})


def test_an_equal_version_is_accepted_and_every_rule_was_looked_at(challenger, champion, holdout):
    decision = decide(challenger=challenger, champion=champion, holdout=holdout,
                      settings=GateSettings())
    assert decision.accepted, decision.summary
    assert not decision.first_version
    assert [*dict.fromkeys(one.rule for one in decision.reasons)] == list(NAMES)
    assert decision.summary == f"accepted: {len(decision.reasons)} of {len(decision.reasons)} " \
                               "checks hold."
    assert decision.tags() == {"gate": "accepted", "gate.first_version": "false"}


def test_the_first_version_is_judged_by_absolute_rules_alone(challenger, holdout):
    decision = decide(challenger=challenger, champion=None, holdout=holdout,
                      settings=GateSettings())
    assert decision.accepted
    assert decision.first_version
    assert "There is no champion yet, so only absolute rules were looked at." in decision.summary
    compared = {"auc_drop", "log_loss_rise", "score_change", "reference_change", "latency"}
    assert {one.rule for one in decision.reasons} == set(NAMES) - compared


def test_a_first_version_that_knows_nothing_is_rejected(holdout, truth):
    decision = decide(challenger=version(holdout.labels, -truth - 3), champion=None,
                      holdout=holdout, settings=GateSettings())
    assert ("beats_constant", "student") in failed(decision)
    assert decision.first_version


def test_a_decision_goes_to_json_and_back(challenger, champion, holdout, truth):
    broken = dataclasses.replace(challenger, parity_max_abs=float("nan"))
    decision = decide(challenger=worse_student(broken, holdout, truth * 0.1), champion=champion,
                      holdout=holdout, settings=GateSettings())
    stored = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    again = Decision.from_dict(stored)
    assert not again.accepted
    assert again.to_dict() == stored
    assert again.summary == decision.summary
    assert again.tags()["gate"] == "rejected"
    assert "parity (student)" in again.tags()["gate.failed"]


def test_the_same_question_has_the_same_answer(challenger, champion, holdout):
    answers = [decide(challenger=challenger, champion=champion, holdout=holdout,
                      settings=GateSettings(), seed=4).to_dict() for _ in range(2)]
    assert answers[0] == answers[1]


def test_off_looks_at_nothing(holdout):
    broken = Candidate(logits={"student": np.full(ROWS, np.nan)})
    decision = decide(challenger=broken, champion=None, holdout=holdout,
                      settings=GateSettings(enabled=False))
    assert decision.accepted
    assert decision.summary == "accepted unseen: the gate is off."
    assert decision.tags() == {"gate": "off"}


@pytest.mark.parametrize(("rule", "change"), [
    ("parity", {"parity_max_abs": 2e-6}),
    ("parity", {"parity_max_abs": float("nan")}),
    ("parity", {"parity_max_abs": None}),
    ("size", {"bytes": 1501}),
    ("size", {"bytes": None}),
    ("latency", {"latency": {500: 1.6e-3}}),
    ("latency", {"latency": {500: float("nan")}}),
    ("latency", {"latency": {1: 1e-9}}),
    ("golden", {"golden": {"home": 0.41}}),
    ("golden", {"golden": {"home": float("nan")}}),
    ("golden", {"golden": {}}),
    ("oov", {"reference": {"fields": {"user": {"oov": 0.21}, "age": {"oov": 0.0}}}}),
    ("oov", {"reference": {"fields": {"user": {"oov": float("nan")}}}}),
    ("oov", {"reference": {}}),
    ("measured", {"metrics": {}}),
    ("measured", {"metrics": {"student": {"auc": 0.7, "log_loss": 0.3}}}),
    ("measured", {"metrics": {"student": {"auc": 0.7, "log_loss": 0.3, "calibration": 1.0,
                                          "slices": {"a": {"auc": float("nan")}}}}}),
], ids=str)
def test_one_broken_number_rejects_by_its_own_rule(challenger, champion, holdout, rule, change):
    decision = decide(challenger=dataclasses.replace(challenger, **change), champion=champion,
                      holdout=holdout, settings=GateSettings())
    assert [name for name, _ in failed(decision)] == [rule]
    assert decision.summary.startswith("rejected by 1 of ")


def test_what_the_champion_lacks_does_not_reject(challenger, champion, holdout):
    old = dataclasses.replace(champion, metrics={}, reference={}, latency={}, bytes=None,
                              parity_max_abs=None, golden={})
    decision = decide(challenger=challenger, champion=old, holdout=holdout,
                      settings=GateSettings())
    assert decision.accepted, decision.summary


def test_a_broken_champion_can_be_replaced(challenger, champion, holdout):
    broken = dataclasses.replace(champion, logits={"student": np.full(ROWS, np.nan)})
    decision = decide(challenger=challenger, champion=broken, holdout=holdout,
                      settings=GateSettings())
    assert decision.accepted, decision.summary
    assert any("the champion has no finite scores" in one.sentence for one in decision.reasons)


def test_one_score_that_is_no_number_rejects(challenger, champion, holdout):
    logits = challenger.logits["student"].copy()
    logits[7] = np.inf
    broken = dataclasses.replace(challenger, logits={**challenger.logits, "student": logits})
    decision = decide(challenger=broken, champion=champion, holdout=holdout,
                      settings=GateSettings())
    assert ("finite", "student") in failed(decision)
    assert {subject for _, subject in failed(decision)} == {"student"}
    # Also where the rule that looks for it is left out: nothing can be measured.
    settings = dataclasses.replace(GateSettings().only("auc_drop", "score_change"))
    decision = decide(challenger=broken, champion=champion, holdout=holdout, settings=settings)
    assert failed(decision) == [("auc_drop", "student"), ("score_change", "student")]


def test_a_student_without_scores_rejects(challenger, champion, holdout):
    lost = dataclasses.replace(challenger, logits={"teacher": challenger.logits["teacher"]})
    decision = decide(challenger=lost, champion=champion, holdout=holdout, settings=GateSettings())
    assert failed(decision) == [("finite", "student")]


def test_a_student_may_come_without_its_teacher(challenger, champion, holdout):
    alone = dataclasses.replace(challenger, logits={"student": challenger.logits["student"]},
                                metrics={"student": challenger.metrics["student"]})
    decision = decide(challenger=alone, champion=champion, holdout=holdout,
                      settings=GateSettings())
    assert decision.accepted, decision.summary


def test_a_worse_teacher_rejects_as_well(challenger, champion, holdout, truth):
    noisy = truth + 1.5 * np.random.default_rng(5).normal(size=ROWS)
    worse = dataclasses.replace(challenger, logits={**challenger.logits, "teacher": noisy})
    decision = decide(challenger=worse, champion=champion, holdout=holdout,
                      settings=GateSettings())
    assert ("auc_drop", "teacher") in failed(decision)
    assert "student" not in {subject for _, subject in failed(decision)}
    warned = dataclasses.replace(GateSettings(), auc_drop=dataclasses.replace(
        GateSettings().auc_drop, severity="warn")).only("auc_drop")
    decision = decide(challenger=worse, champion=champion, holdout=holdout, settings=warned)
    assert decision.accepted
    assert [one.subject for one in decision.warnings] == ["teacher"]
    assert "Warning: teacher: AUC" in decision.summary
    assert decision.tags()["gate.warnings"] == "auc_drop (teacher)"


def of_size(rows, drop_noise, seed=6):
    """A day of that many rows, a sound champion and a noisier challenger."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=rows) - 1.5
    labels = (rng.random(rows) < sigmoid(logits)).astype(np.float32)
    worse = logits + drop_noise * rng.normal(size=rows)
    return (Candidate(logits={"student": worse}), Candidate(logits={"student": logits}),
            Holdout(labels=labels, groups=np.arange(rows) // 10))


@pytest.mark.parametrize(("rows", "noise", "accepted"), [
    (500, 0.3, True), (500, 3.0, False), (300_000, 0.3, False), (300_000, 0.05, True)])
def test_a_small_day_rejects_disasters_and_a_large_day_small_losses(rows, noise, accepted):
    challenger, champion, holdout = of_size(rows, noise)
    decision = decide(challenger=challenger, champion=champion, holdout=holdout,
                      settings=GateSettings().only("auc_drop"))
    assert decision.accepted is accepted, decision.summary
    (reason,) = decision.reasons
    assert reason.measured["low"] <= reason.measured["worse"] <= reason.measured["high"]
    assert set(reason.limit) == {"allowed", "hard"}


def test_a_version_as_good_as_the_champion_is_rarely_rejected():
    # Both are the truth and noise of their own: 100 days of 400 rows, four rules on each.
    rules = GateSettings(resamples=100).only("auc_drop", "log_loss_rise", "calibration",
                                             "beats_constant")
    # Without the hard limits, which such days do reach by chance, only the intervals speak.
    rules = dataclasses.replace(
        rules, auc_drop=dataclasses.replace(rules.auc_drop, allowed=0, hard=1),
        log_loss_rise=dataclasses.replace(rules.log_loss_rise, allowed=0, hard=1))
    rejected = 0
    for day in range(100):
        rng = np.random.default_rng([7, day])
        logits = rng.normal(size=400) - 1
        labels = (rng.random(400) < sigmoid(logits)).astype(np.float32)
        one, other = (Candidate(logits={"student": logits + 0.3 * rng.normal(size=400)})
                      for _ in range(2))
        rejected += not decide(challenger=one, champion=other, settings=rules, seed=day,
                               holdout=Holdout(labels=labels, groups=np.arange(400) // 8)).accepted
    assert rejected <= 6


def test_few_groups_leave_the_hard_limit_alone():
    challenger, champion, holdout = of_size(2000, 1.0)
    few = dataclasses.replace(holdout, groups=np.arange(2000) % 19)
    rules = GateSettings().only("auc_drop")
    rules = dataclasses.replace(rules, auc_drop=dataclasses.replace(rules.auc_drop, hard=0.5))
    decision = decide(challenger=challenger, champion=champion, holdout=few, settings=rules)
    assert decision.accepted
    assert "only 19 groups, no interval" in decision.reasons[0].sentence
    assert not decide(challenger=challenger, champion=champion, holdout=holdout,
                      settings=rules).accepted


def with_slices(*patterns, **changes):
    settings = GateSettings().only("slice_auc_drop")
    return dataclasses.replace(settings, slice_auc_drop=dataclasses.replace(
        settings.slice_auc_drop, slices=patterns, **changes))


def test_a_slice_can_reject_where_the_whole_does_not(challenger, champion, holdout, truth):
    new = holdout.slices["new_item"]
    rng = np.random.default_rng(8)
    lost = np.where(new, -1.5 + 0.1 * rng.normal(size=ROWS), truth)
    worse = worse_student(challenger, holdout, lost)
    decision = decide(challenger=worse, champion=champion, holdout=holdout,
                      settings=with_slices("*_item", "rare"))
    assert failed(decision) == [("slice_auc_drop", "student new_item")]
    # 50 rows are fewer than the rule asks for, so the slice `rare` is not judged.
    assert [one.subject for one in decision.reasons] == ["student new_item", "student known_item"]


def test_a_slice_of_one_class_is_not_judged(challenger, champion, holdout):
    clicked = dataclasses.replace(holdout, slices={"clicked": holdout.labels == 1})
    decision = decide(challenger=challenger, champion=champion, holdout=clicked,
                      settings=with_slices("*"))
    assert decision.accepted
    assert decision.reasons[0].sentence == "student clicked: one class only, not compared."


def test_more_slices_make_wider_intervals(challenger, champion, holdout):
    widths = []
    for patterns in (["new_item"], ["*_item"]):
        reason = decide(challenger=challenger, champion=champion, holdout=holdout,
                        settings=with_slices(*patterns)).reasons[0]
        widths.append(reason.measured["high"] - reason.measured["low"])
    # Two intervals share 5%: 97.5% each instead of 95%.
    assert widths[1] / widths[0] == pytest.approx(2.2414 / 1.9600, rel=0.01)


def test_promises_that_are_not_kept_reject(challenger, champion, holdout, truth):
    decision = decide(challenger=worse_student(challenger, holdout, truth + 1.0),
                      champion=champion, holdout=holdout,
                      settings=GateSettings().only("calibration", "ece", "auc_drop"))
    # The order of the rows is untouched, so it is these two alone.
    assert failed(decision) == [("calibration", "student"), ("ece", "student")]


def test_ece_by_chance_is_no_reason(truth):
    # 400 rows of a perfectly calibrated model have an ECE of some 0.05 that means nothing: even
    # with nothing allowed beyond chance, the gate's level says how often it rejects.
    settings = dataclasses.replace(GateSettings().only("ece"),
                                   ece=CalibrationError(excess=0.0))
    challenger = Candidate(logits={"student": truth[:400]})
    draws, rejected, largest = np.random.default_rng(9), 0, 0.0
    for _ in range(400):
        labels = (draws.random(400) < sigmoid(truth[:400])).astype(np.float32)
        decision = decide(challenger=challenger, champion=None, holdout=Holdout(labels=labels),
                          settings=settings)
        rejected += not decision.accepted
        largest = max(largest, decision.reasons[0].measured["value"])
    assert largest > GateSettings().ece.excess
    # 10 of 400 are expected, give or take 3.
    assert 1 <= rejected <= 22


def test_scores_that_jump_reject_although_they_rank_alike(challenger, champion, holdout):
    theirs = champion.logits["student"]
    moved = worse_student(challenger, holdout, 3 * theirs + 2)
    decision = decide(challenger=moved, champion=champion, holdout=holdout,
                      settings=GateSettings().only("score_change", "auc_drop"))
    assert failed(decision) == [("score_change", "student")]
    reason = decision.failed[0]
    assert reason.measured["mean_abs_logit"] == pytest.approx(np.abs(2 * theirs + 2).mean())


def test_many_rows_with_one_score_may_move_a_little(champion, holdout, challenger):
    # Three rows of ten have the score of a tenth's end: as points, all change their tenth.
    theirs = champion.logits["student"].copy()
    theirs[::10] = theirs[3::10] = theirs[6::10] = np.quantile(theirs, 0.4)
    settings = GateSettings().only("score_change")
    for moved, psi in ((-0.03, 0.0), (0.03, 0.0), (1.5 * theirs.std(), 1.5)):
        decision = decide(
            challenger=worse_student(challenger, holdout, theirs + moved),
            champion=dataclasses.replace(champion, logits={**champion.logits, "student": theirs}),
            holdout=holdout, settings=dataclasses.replace(settings, score_change=ScoreChange(
                mean_abs_logit=10.0)))
        (reason,) = decision.reasons
        assert decision.accepted == (psi == 0)
        # Two normal distributions apart by s standard deviations have s^2.
        assert reason.measured["psi"] == pytest.approx(psi ** 2, abs=0.02 if psi == 0 else 0.5)


@pytest.mark.parametrize("score", [0.0, 0.7])
def test_a_champion_that_says_one_number(champion, holdout, challenger, score):
    theirs = np.full_like(champion.logits["student"], 0.7)
    decision = decide(
        challenger=worse_student(challenger, holdout, np.full_like(theirs, score)),
        champion=dataclasses.replace(champion, logits={**champion.logits, "student": theirs}),
        holdout=holdout, settings=GateSettings().only("score_change"))
    assert decision.accepted == (score == 0.7)


def test_another_histogram_only_warns(challenger, champion, holdout):
    moved = dataclasses.replace(champion, reference={
        **champion.reference, "probability": [0] * 10 + [200] * 10})
    decision = decide(challenger=challenger, champion=moved, holdout=holdout,
                      settings=GateSettings())
    assert decision.accepted
    assert [one.rule for one in decision.warnings] == ["reference_change"]


@pytest.mark.parametrize(("rows", "rate", "accepted"), [
    (1000, 0.1, True), (1000, 0.2, False), (1000, 0.04, False), (20, 0.25, True)])
def test_a_label_rate_is_odd_where_chance_does_not_explain_it(rows, rate, accepted):
    labels = np.zeros(rows, np.float32)
    labels[:round(rows * rate)] = 1
    decision = decide(challenger=Candidate(logits={}), champion=None,
                      holdout=Holdout(labels=labels, training_rows=10_000,
                                      training_positives=1000),
                      settings=GateSettings().only("label_rate"))
    assert decision.accepted is accepted, decision.summary


@pytest.mark.parametrize("labels", [[], [0] * 500, [1] * 500, [0, 1] * 50], ids=len)
def test_a_holdout_that_says_nothing_rejects(labels):
    labels = np.array(labels, np.float32)
    decision = decide(challenger=Candidate(logits={"student": np.zeros(len(labels))}),
                      champion=Candidate(logits={"student": np.zeros(len(labels))}),
                      holdout=Holdout(labels=labels), settings=GateSettings())
    assert ("holdout", "holdout") in failed(decision)


@pytest.mark.parametrize(("rows", "share", "passes"), [
    (60, 0.26, True), (60, 0.6, False), (6000, 0.26, False), (6000, 0.19, True),
    (None, 0.26, False)])
def test_few_rows_explain_a_rise_of_unseen_values(challenger, champion, holdout, rows, share,
                                                  passes):
    """Beside a champion that was published with many rows or few of them."""
    given = {} if rows is None else {"rows": rows}
    versions = [dataclasses.replace(one, reference={"fields": {"user": {"oov": value}}, **given})
                for one, value in ((challenger, share), (champion, 0.1))]
    decision = decide(challenger=versions[0], champion=versions[1], holdout=holdout,
                      settings=GateSettings().only("oov"))
    assert failed(decision) == ([] if passes else [("oov", "field user")])


@pytest.mark.parametrize(("draws", "passes"), [(6000, False), (60, True)])
def test_rows_of_few_users_explain_a_rise_of_unseen_values(challenger, champion, holdout, draws,
                                                           passes):
    versions = [dataclasses.replace(one, reference={
        "rows": 6000, "fields": {"user": {"oov": share, "draws": draws}}})
                for one, share in ((challenger, 0.26), (champion, 0.1))]
    decision = decide(challenger=versions[0], champion=versions[1], holdout=holdout,
                      settings=GateSettings().only("oov"))
    assert failed(decision) == ([] if passes else [("oov", "field user")])


def test_limits_without_a_champion(challenger, holdout):
    rules = GateSettings().only("oov", "size")
    rules = dataclasses.replace(
        rules, oov=dataclasses.replace(rules.oov, maximum=0.05),
        size=dataclasses.replace(rules.size, maximum=999))
    decision = decide(challenger=challenger, champion=None, holdout=holdout, settings=rules)
    assert failed(decision) == [("oov", "field user"), ("size", "student")]


@pytest.mark.parametrize("where", ["champion", "groups", "slice `odd`"])
def test_other_rows_are_refused(challenger, champion, holdout, where):
    if where == "champion":
        champion = dataclasses.replace(champion, logits={"student": np.zeros(ROWS - 1)})
    elif where == "groups":
        holdout = dataclasses.replace(holdout, groups=np.zeros(3))
    else:
        holdout = dataclasses.replace(holdout, slices={"odd": np.zeros(3, bool)})
    with pytest.raises(DataError, match=rf"{where}.* must have shape \(1600,\)"):
        decide(challenger=challenger, champion=champion, holdout=holdout, settings=GateSettings())


def test_golden_requests_are_read(tmp_path):
    path = tmp_path / "golden.json"
    sound = {"name": "home", "request": {"user": "ann"}, "low": 0.1, "high": 0.4}
    path.write_text(json.dumps([sound]))
    assert read_golden_requests(path) == [GoldenRequest(**sound)]
    path.write_text(json.dumps([sound, sound, {**sound, "name": "b", "low": 0.5}, {"name": "c"},
                                {**sound, "name": "d", "high": "1"}, 3]))
    with pytest.raises(ConfigError, match="5 mistakes") as caught:
        read_golden_requests(path)
    assert [part for part in ("golden request `b` needs 0 <= low <= high <= 1",
                              "request 3 must have the keys high, low, name, request",
                              "request 4: low and high must be numbers, got 0.1 and '1'",
                              "two golden requests are named `home`")
            if part not in str(caught.value)] == []
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_golden_requests(path)


# --- weights, and a champion that knows the holdout ---

def weighted_case(truth, holdout):
    """Clicks count four times: a model that has learned so promises more than clicks happen."""
    weights = np.where(holdout.labels == 1, 4.0, 1.0)
    rate = float(np.average(holdout.labels, weights=weights))
    return dataclasses.replace(holdout, weights=weights,
                               training_positives=rate * holdout.training_rows), truth + np.log(4)


def test_a_model_of_weighted_losses_is_judged_by_them(truth, holdout, champion):
    judged, logits = weighted_case(truth, holdout)
    learned = version(holdout.labels, logits)
    rival = dataclasses.replace(champion, logits={tower: values + np.log(4)
                                                  for tower, values in champion.logits.items()})
    fair = decide(challenger=learned, champion=rival, holdout=judged, settings=GateSettings())
    assert fair.accepted, fair.summary
    unfair = decide(challenger=learned, champion=rival,
                    holdout=dataclasses.replace(judged, weights=None), settings=GateSettings())
    assert {"calibration", "ece", "label_rate", "beats_constant"} <= {
        one.rule for one in unfair.failed}


def test_metrics_are_compared_with_the_rival_and_the_rest_with_the_champion(
        truth, holdout, challenger, champion):
    # The champion has learned the labels of the holdout: nobody can be as good.
    taught = version(holdout.labels, truth + 2 * (holdout.labels - 0.5))
    known = {"challenger": challenger, "holdout": holdout, "settings": GateSettings()}
    assert {"auc_drop", "log_loss_rise"} <= {
        one.rule for one in decide(champion=taught, **known).failed}
    rival = dataclasses.replace(champion, name="version 7")
    decision = decide(champion=taught, rival=rival, **known)
    by_rule = {one.rule: one for one in decision.reasons}
    for rule in ("auc_drop", "log_loss_rise"):
        assert by_rule[rule].passed
        assert by_rule[rule].sentence.endswith("Compared with version 7.")
    moved = np.abs(challenger.logits["student"] - taught.logits["student"]).mean()
    assert by_rule["score_change"].measured["mean_abs_logit"] == pytest.approx(moved)
