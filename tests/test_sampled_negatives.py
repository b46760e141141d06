"""Negatives that were sampled: training stays in the sampled space, what is served does not."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import dataclasses
import datetime
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dualdnn.data.examples import Negatives, open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import ChosenDays, TimeFraction
from dualdnn.distillation.objective import Objective
from dualdnn.evaluation.metrics import auc, calibration, ece, log_loss, sigmoid
from dualdnn.evaluation.predictions import predictions_of
from dualdnn.evaluation.ranking_agreement import ranking_agreement
from dualdnn.export.serving_graph import ServingGraph
from dualdnn.export.student import export_student
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.schema import schema_from_dict
from dualdnn.training.field_importance import field_importance
from dualdnn.training.learner import Learner
from dualdnn.training.measure import measure, score_with_best
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.table_optimizer import TableOptimizerSettings
from pipelines import reporting
from pipelines.challenge import holdout_of
from pipelines.daily_steps import as_learned, learned_notes, space_of
from pipelines.reporting import efficiency_section, measured_sections
from tests.tiny_run import build_model, build_trainer

ROWS, ITEMS = 12_000, 8


def mixed(item):
    """One in four or one in two, whatever the item."""
    return np.where(np.arange(len(item)) % 2, 0.25, 0.5)


def write_day(path, rates, number=0):
    """Clicks by item; negatives are kept by `rates`, a function of the items, or all of them."""
    rng = np.random.default_rng(5 + number)
    chance = np.linspace(0.02, 0.3, ITEMS)
    item = rng.integers(0, ITEMS, ROWS)
    click = rng.random(ROWS) < chance[item]
    rate = mixed(item) if rates is None else rates(item)
    kept = np.ones(ROWS, bool) if rates is None else click | (rng.random(ROWS) < rate)
    folder = path / f"dt=2024-01-0{1 + number}"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({
        "click": click[kept].astype(np.int64),
        "ts": np.arange(ROWS)[kept] + 1_704_067_200 + 86_400 * number,
        "item": item[kept], "rate": rate[kept], "weight": np.ones(int(kept.sum())),
    }), folder / "part.parquet")
    (folder / "_SUCCESS").touch()
    return Lake(path)


def write_days(path, rates):
    """A day a rate, that of all of its negatives."""
    for number, rate in enumerate(rates):
        lake = write_day(path, lambda item, rate=rate: np.full(len(item), rate), number)
    return lake


def schema_of(rate, weight):
    return schema_from_dict({"name": "sampled", "label": "click", "timestamp": "ts",
                             "sampling_rate": rate, "weight": weight,
                             "fields": [{"name": "item", "kind": "id", "side": "item"}]})


def opened(folder, *, sampled, rate, weight=None, rates=mixed):
    lake = Lake(folder / "lake") if (folder / "lake").exists() else write_day(
        folder / "lake", rates if sampled else None)
    return lake, open_examples(lake=lake, schema=schema_of(rate, weight), state=folder / "state",
                               window=TimeFraction(train=0.7, valid=0.0, test=0.3))


def trained(examples, folder):
    model = build_model(examples, [Objective(soft_label_weight=1.0)], dropout=0.0)
    trainer = build_trainer(examples, model, folder / "run", batch_size=256, epochs=3,
                            table=TableOptimizerSettings(learning_rate=0.05))
    trainer.run()
    return model, trainer.best


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    lake, examples = opened(folder, sampled=True, rate="rate")
    return lake, examples, *trained(examples, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    _, examples = opened(folder, sampled=False, rate=None)
    return examples, *trained(examples, folder)


def test_training_does_not_know_of_a_rate_that_is_the_same_everywhere(tmp_path, sampled):
    _, blind = opened(tmp_path, sampled=True, rate=None)
    _, knows = opened(tmp_path, sampled=True, rate=0.3)
    index = blind.split.test
    for mine, theirs in zip(*(
            score_with_best(*trained(one, tmp_path / str(number)), one, index).values()
            for number, one in enumerate((blind, knows))), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_rows_of_any_rate_are_learned_as_one_space(tmp_path):
    """Of some items one negative in ten is kept, of others every second: both are calibrated."""
    _, examples = opened(tmp_path, sampled=True, rate="rate",
                         rates=lambda item: np.where(item % 2, 0.1, 0.5))
    model, best = trained(examples, tmp_path)
    measured, _ = measure(model, best, examples, examples.split.train, slices=["item"])
    for tower in (TEACHER, "s0"):
        by_item = measured[tower]["slices"]
        assert len(by_item) >= ITEMS
        # Without its rate in the losses an item would be off by up to 2.
        for item in map(str, range(2, ITEMS)):
            assert by_item[f"item={item}"]["calibration"] == pytest.approx(1, abs=0.25), item


def test_a_fine_tune_at_another_rate_stays_calibrated(tmp_path):
    days = [datetime.date(2024, 1, 1 + number) for number in range(3)]
    lake, schema = write_days(tmp_path / "lake", rates=(0.5, 0.1, 1.0)), schema_of("rate", None)
    where = {"lake": lake, "schema": schema, "state": tmp_path / "state"}
    first = open_examples(**where, window=ChosenDays(train=days[:1]))
    model = build_model(first, [Objective(soft_label_weight=1.0)], dropout=0.0)
    learner = Learner(build_trainer(first, model, tmp_path / "unused",
                                    table=TableOptimizerSettings(learning_rate=0.05)).train_step,
                      first.row_map)
    settings = TrainingSettings(epochs=3, batch_size=128)
    learner.train(first, settings, seed=1, folder=tmp_path / "first")
    notes = learned_notes(first, first.split.train, {})
    newest, growth = learner.open_newest(**where, window=ChosenDays(train=days[1:2]))
    newest = as_learned(newest, Negatives(*notes["negatives"]))
    learner.fine_tune(newest, growth, settings, seed=1, folder=tmp_path / "second")
    later = as_learned(open_examples(**where, window=ChosenDays(train=[], test=days[2:]),
                                     row_map=learner.row_map), newest.learned_space)
    assert later.negative_rate == newest.negative_rate == pytest.approx(0.5)
    scores = learner.score(later, later.split.test)
    for tower in (TEACHER, "s0"):
        served = sigmoid(scores[tower] + np.log(later.negative_rate))
        assert calibration(later.labels, served) == pytest.approx(1, abs=0.15), tower


def test_metrics_are_of_the_corrected_scores_with_negatives_weighted_up(sampled):
    _, examples, model, best = sampled
    index = examples.split.test
    measured, logits = measure(model, best, examples, index, slices=["item"])
    labels = examples.labels[index]
    weights = np.where(labels == 0, 1 / examples.sampling_rates[index], 1)
    for tower, raw in logits.items():
        served = raw + np.log(examples.negative_rate)
        assert measured[tower]["log_loss"] == pytest.approx(log_loss(labels, served, weights))
        assert measured[tower]["calibration"] == pytest.approx(
            calibration(labels, sigmoid(served), weights), rel=1e-6)
        assert measured[tower]["auc"] == pytest.approx(auc(labels, served, weights))
        assert measured[tower]["auc"] != pytest.approx(auc(labels, served), abs=1e-6)
        assert measured[tower]["ece"] == pytest.approx(ece(labels, sigmoid(served), weights)[0])
        assert "weighted" not in measured[tower]
        one = labels[examples.rows[index, 0] == examples.rows[index[0], 0]]
        assert len(one) in [s["rows"] for s in measured[tower]["slices"].values()]


def test_efficiency_and_importance_are_of_the_same_auc(sampled):
    _, examples, model, best = sampled
    index = examples.split.test
    labels = examples.labels[index]
    weights = np.where(labels == 0, 1 / examples.sampling_rates[index], 1)
    measured, logits = measure(model, best, examples, index)
    importance = field_importance(model, best, examples, index, [TEACHER])
    # One item that nobody knows: every row has the same score.
    assert importance[TEACHER]["item"]["auc_loss"] == pytest.approx(
        measured[TEACHER]["auc"] - 0.5)
    rng = np.random.default_rng(3)
    given = {"teacher": logits[TEACHER],
             "student": logits[TEACHER] + 0.5 * rng.normal(size=len(index)),
             "alone": logits[TEACHER] + 2 * rng.normal(size=len(index))}
    teacher, student, alone = (auc(labels, one, weights) for one in given.values())
    share = (student - alone) / (teacher - alone)
    section = efficiency_section(examples, index, **given)
    low, high = section.pop("distillation_efficiency_interval")
    assert section == {"distillation_efficiency": pytest.approx(share)}
    assert share - 0.3 < low < share < high < share + 0.3
    equal = [auc(labels, one) for one in given.values()]
    assert share != pytest.approx((equal[1] - equal[2]) / (equal[0] - equal[2]), abs=1e-4)
    assert efficiency_section(examples, index, **{**given, "alone": given["teacher"]}) == {}


def test_rankings_agree_as_in_the_scores_that_are_kept(sampled, monkeypatch):
    _, examples, model, best = sampled
    grouped = dataclasses.replace(examples, groups=np.arange(len(examples.labels)) % 50)
    index, rng = examples.split.test, np.random.default_rng(4)
    logits = {tower: rng.normal(size=len(index)).astype(np.float32) for tower in (TEACHER, "s0")}
    monkeypatch.setattr(reporting, "measure",
                        lambda *given, slices: ({tower: {} for tower in logits}, logits))
    monkeypatch.setattr(reporting, "_time", lambda *given: None)
    student = SimpleNamespace(name="s0", scheme=SimpleNamespace(name="co_training"))
    plan = SimpleNamespace(students=[student], baselines=[], slices=[],
                           teacher=SimpleNamespace(is_pool=False, interactions=[]))
    sections, _ = measured_sections(plan, model, best, grouped)
    kept = predictions_of(grouped, index, logits, {})
    found = sections["students"]["s0"]["ranking_agreement"]
    assert found == ranking_agreement(kept.logits[TEACHER], kept.logits["s0"], kept.groups)
    assert found != ranking_agreement(logits[TEACHER], logits["s0"], kept.groups)


def test_weights_multiply_what_a_negative_stands_for(sampled, tmp_path_factory):
    _, examples, model, best = sampled
    index = examples.split.test
    plain, _ = measure(model, best, examples, index)
    rng = np.random.default_rng(0)
    weighted = dataclasses.replace(
        examples, weights=rng.random(len(examples.labels)).astype(np.float32))
    numbers, logits = measure(model, best, weighted, index)
    labels = examples.labels[index]
    both = weighted.weights[index] * np.where(labels == 0, 1 / examples.sampling_rates[index], 1)
    served = logits[TEACHER] + np.log(examples.negative_rate)
    assert numbers[TEACHER]["log_loss"] == plain[TEACHER]["log_loss"]
    assert numbers[TEACHER]["weighted"]["log_loss"] == pytest.approx(
        log_loss(labels, served, both))


def test_calibration_is_that_of_the_unsampled_run_within_its_error(sampled, whole):
    _, examples, model, best = sampled
    for tower in (TEACHER, "s0"):
        numbers = [measure(m, b, e, e.split.test)[0][tower]["calibration"]
                   for e, m, b in ((examples, model, best), whole)]
        # About 570 clicks in the test part: one standard error is 4%, or 6% of the difference.
        assert numbers[0] == pytest.approx(numbers[1], abs=0.15)
        assert numbers[0] == pytest.approx(1, abs=0.15)


def test_the_exported_graph_corrects_probability_and_logit(sampled, tmp_path):
    lake, examples, model, best = sampled
    exported, answers = export_student(model=model, best=best, examples=examples, lake=lake,
                                       student="s0", folder=tmp_path / "out", manifest={})
    assert exported.parity_max_abs <= 1e-6
    manifest = json.loads((exported.path / "manifest.json").read_text())
    rate = examples.negative_rate
    assert manifest["sampling_rate"] == rate
    assert 0.25 < rate < 0.5
    index = examples.split.test
    raw = score_with_best(model, best, examples, index)["s0"]
    answer = tf.saved_model.load(str(exported.path)).signatures["encoded"](
        rows=tf.constant(examples.rows[index]))
    p = sigmoid(raw)
    np.testing.assert_allclose(answer["probability"], p / (p + (1 - p) / rate), rtol=1e-5)
    np.testing.assert_allclose(answer["logit"], raw + np.log(rate), rtol=1e-5, atol=1e-6)
    assert 0 < answers[0]["probability"] < 0.6


def test_without_sampling_nothing_is_added(whole):
    examples, _, _ = whole
    assert examples.negative_rate == 1
    graph = ServingGraph(schema=examples.schema, row_map=examples.row_map, variables=[],
                         score=lambda rows, _: tf.fill([len(rows)], 0.3))
    assert graph._answer(tf.zeros((2, 1), tf.int32), None)["logit"].numpy().tolist() == [
        np.float32(0.3)] * 2


def test_the_correction_is_that_of_the_training_from_scratch(sampled):
    _, examples, _, _ = sampled
    index = examples.split.train
    rates = examples.sampling_rates[index[examples.labels[index] == 0]].astype(float)
    once = examples.negatives(index)
    assert once == (len(rates), pytest.approx((1 / rates).sum()))
    assert examples.negative_rate == pytest.approx(once.kept / once.stand_for)
    notes = learned_notes(examples, index, {})
    # A fine-tune at a tenth of the rate: its negatives count ten times as much instead.
    tenth = dataclasses.replace(examples, sampling_rates=examples.sampling_rates / 10)
    tuned = as_learned(tenth, Negatives(*notes["negatives"]))
    assert tuned.negative_rate == examples.negative_rate
    later = learned_notes(tuned, index, {}, notes)
    assert later["negatives"] == notes["negatives"]
    negative = examples.labels[index] == 0
    np.testing.assert_allclose(tuned.loss_weights(index)[negative],
                               10 * examples.loss_weights(index)[negative], rtol=1e-6)
    np.testing.assert_allclose(tuned.batch(index).weights, tuned.loss_weights(index), rtol=1e-6)
    # Nor does a number in the schema say what a version was trained with, nor a log without rates.
    fixed = dataclasses.replace(tuned, schema=schema_of(0.05, None))
    assert fixed.negative_rate == examples.negative_rate
    complete = dataclasses.replace(tuned, sampling_rates=None)
    assert complete.negative_rate == examples.negative_rate
    assert set(complete.loss_weights(index)) == {1.0, examples.negative_rate}


def test_a_version_that_noted_no_negatives_is_of_the_rate_of_its_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"sampling_rate": 0.25, "sha256": {}}))

    def standing(**about):
        return SimpleNamespace(student=None, stored=SimpleNamespace(about=about), path=tmp_path)

    for about in ({}, {"negatives": [0.0, 0.0]}):
        assert space_of(standing(**about)) == (0.25, 1.0)
    assert space_of(standing(negatives=[5.0, 50.0])) == (5.0, 50.0)


def test_rows_of_another_rate_weigh_what_they_would_among_the_learned(sampled):
    _, examples, _, _ = sampled
    index = examples.split.test
    weights, negative = examples.loss_weights(index), examples.labels[index] == 0
    assert (weights[~negative] == 1).all()
    np.testing.assert_allclose(weights[negative],
                               examples.negative_rate / examples.sampling_rates[index][negative])
    same = dataclasses.replace(examples, sampling_rates=np.full(len(examples.labels), 0.3, "f4"))
    assert same.loss_weights(index) is None
    twice = dataclasses.replace(same, weights=np.full(len(examples.labels), 2, "f4"))
    assert (twice.loss_weights(index) == 2).all()


def test_the_gate_finds_a_model_calibrated_whatever_the_rates_of_the_holdout(sampled):
    _, examples, model, best = sampled
    index = examples.split.test
    # Half of the holdout's negatives are gone: each that is left stands for two.
    thinned = index[(examples.labels[index] == 1) | (np.arange(len(index)) % 2 == 0)]
    halved = examples.sampling_rates.copy()
    halved[thinned] /= 2
    logits = score_with_best(model, best, examples, thinned)
    judged = holdout_of(dataclasses.replace(examples, sampling_rates=halved), thinned, [], {})
    rates = judged.rate, judged.training_positives / judged.training_rows
    assert rates[0] == pytest.approx(rates[1], rel=0.15)
    for weights, sound in ((judged.weights, True), (None, False)):
        found = calibration(judged.labels, sigmoid(logits[TEACHER]), weights)
        assert (0.85 < found < 1.15) is sound
