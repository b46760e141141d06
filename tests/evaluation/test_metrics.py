import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import (
    auc,
    calibration,
    ece,
    evaluate_scores,
    grouped_auc,
    log_loss,
    normalized_entropy,
    sigmoid,
)


def tied_data(seed, rows=400, levels=15):
    """Labels of both classes, logits of which many are equal, weights of which some are zero."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-levels, levels, rows) / 4
    labels = (rng.random(rows) < sigmoid(logits)).astype(np.int8)
    labels[:2] = 0, 1
    weights = rng.integers(0, 4, rows) * rng.random(rows)
    return labels, logits, weights


def test_auc_counts_pairs_and_half_of_each_tie():
    # pairs (1 over 3 negatives): beats 0.1, ties 0.5, loses to 0.9 -> (1 + 0.5 + 0) / 3
    assert auc([0, 0, 0, 1], [0.1, 0.5, 0.9, 0.5]) == 0.5
    assert auc([0, 1, 1], [0.2, 0.2, 0.7]) == 0.75
    assert auc([0, 1], [1, 2]) == 1.0
    assert auc([0, 1], [2, 1]) == 0.0


def test_auc_of_a_constant_score_is_one_half():
    assert auc([0, 1, 1, 0, 1], np.zeros(5)) == 0.5


@pytest.mark.parametrize("seed", range(10))
def test_auc_equals_scikit_learn_with_many_ties(seed):
    labels, logits, weights = tied_data(seed, levels=seed + 1)
    assert auc(labels, logits) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, logits), abs=1e-12
    )
    assert auc(labels, logits, weights) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, logits, sample_weight=weights), abs=1e-12
    )


def test_auc_keeps_the_order_of_logits_whose_probabilities_are_all_one():
    logits = np.array([50.0, 60.0, 70.0])
    assert (sigmoid(logits) == 1.0).all()
    assert auc([0, 1, 1], logits) == 1.0


def test_auc_does_not_depend_on_the_order_of_rows():
    labels, logits, _ = tied_data(3)
    order = np.random.default_rng(0).permutation(len(labels))
    assert auc(labels[order], logits[order]) == auc(labels, logits)


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [1, 1, 1]])
def test_auc_of_one_class_is_none(labels):
    assert auc(labels, np.arange(len(labels))) is None


def test_grouped_auc_by_hand():
    labels = [0, 1, 1, 0, 0, 1, 1]
    scores = [1, 2, 5, 6, 3, 3, 9]
    groups = [7, 7, 8, 8, 8, 9, 9]
    # group 7: 1 of 1 pairs, 2 rows; group 8: 5 > 3 of 2 pairs, 3 rows; group 9: one class
    value, share = grouped_auc(labels, scores, groups)
    assert value == pytest.approx((2 * 1.0 + 3 * 0.5) / 5, abs=1e-15)
    assert share == pytest.approx(5 / 7, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_grouped_auc_equals_a_slow_loop(seed):
    labels, logits, _ = tied_data(seed)
    groups = np.random.default_rng(seed + 100).integers(0, 120, len(labels)) ** 2
    total, rows = 0.0, 0
    for group in np.unique(groups):
        inside = groups == group
        if len(set(labels[inside])) == 2:
            area = sklearn_metrics.roc_auc_score(labels[inside], logits[inside])
            total += inside.sum() * area
            rows += inside.sum()
    value, share = grouped_auc(labels, logits, groups)
    assert value == pytest.approx(total / rows, abs=1e-12)
    assert share == pytest.approx(rows / len(labels), abs=1e-15)
    assert grouped_auc(labels, logits, groups.astype(str)) == pytest.approx((value, share))


def test_grouped_auc_of_one_group_is_the_auc():
    labels, logits, _ = tied_data(1)
    assert grouped_auc(labels, logits, np.full(len(labels), 3)) == pytest.approx(
        (auc(labels, logits), 1.0), abs=1e-15
    )


def test_grouped_auc_ignores_a_shift_per_group():
    labels, logits, _ = tied_data(2)
    groups = np.arange(len(labels)) % 20
    assert grouped_auc(labels, logits + 100 * groups, groups) == grouped_auc(labels, logits, groups)


def test_grouped_auc_where_nothing_can_be_measured():
    assert grouped_auc([], [], []) == (None, None)
    assert grouped_auc([0, 1], [1, 2], [5, 6]) == (None, 0.0)
    # a NaN belongs to no group, not even to that of another NaN
    assert grouped_auc([0, 1], [1, 2], [np.nan, np.nan]) == (None, 0.0)


def test_log_loss_by_hand():
    assert log_loss([0, 1], [0, 0]) == pytest.approx(math.log(2), abs=1e-15)
    # probabilities 3/4 and 1/4
    assert log_loss([1, 1], [math.log(3), -math.log(3)]) == pytest.approx(
        -(math.log(3 / 4) + math.log(1 / 4)) / 2, abs=1e-15
    )


@pytest.mark.parametrize("seed", range(5))
def test_log_loss_equals_scikit_learn(seed):
    labels, logits, weights = tied_data(seed)
    assert log_loss(labels, logits) == pytest.approx(
        sklearn_metrics.log_loss(labels, sigmoid(logits)), abs=1e-12
    )
    assert log_loss(labels, logits, weights) == pytest.approx(
        sklearn_metrics.log_loss(labels, sigmoid(logits), sample_weight=weights), abs=1e-12
    )


def test_log_loss_of_huge_logits_is_neither_clipped_nor_infinite():
    assert log_loss([0], [1000.0]) == 1000.0
    assert log_loss([1], [1000.0]) == 0.0
    assert log_loss([1], [40.0]) == pytest.approx(math.exp(-40), rel=1e-12)


def test_normalized_entropy_of_the_base_rate_is_one():
    labels = np.array([1, 0, 0, 0])
    assert normalized_entropy(labels, np.full(4, -math.log(3))) == pytest.approx(1, abs=1e-15)


def test_normalized_entropy_of_one_class_is_none():
    assert normalized_entropy([1, 1], [0, 1]) is None
    assert normalized_entropy([0, 0], [0, 1]) is None
    assert normalized_entropy([], []) is None


def test_calibration_is_mean_predicted_over_mean_observed():
    assert calibration([0, 1, 0, 1], [0.25, 0.75, 0.4, 0.6]) == 1.0
    assert calibration([0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 2.0
    assert calibration([0, 0], [0.1, 0.2]) is None
    assert calibration([], []) is None


def test_ece_by_hand():
    # bins of two rows: |0.15 - 0.5| and |0.75 - 1|
    value, bins = ece([1, 0, 1, 1], [0.2, 0.1, 0.7, 0.8], bins=2)
    assert value == pytest.approx((0.35 + 0.25) / 2, abs=1e-15)
    assert [one.count for one in bins] == [2, 2]
    assert [one.predicted for one in bins] == pytest.approx([0.15, 0.75])
    assert [one.observed for one in bins] == [0.5, 1.0]


def test_ece_with_weights_by_hand():
    # Two rows a bin; the row of weight 0 is in none.
    value, bins = ece([1, 0, 1, 1, 0], [0.2, 0.1, 0.7, 0.8, 0.05], [3, 1, 1, 1, 0], bins=2)
    assert [(one.predicted, one.observed, one.count) for one in bins] == [
        (pytest.approx(0.7 / 4), 0.75, 2), (pytest.approx(0.75), 1.0, 2)]
    assert value == pytest.approx((4 * (0.75 - 0.7 / 4) + 2 * 0.25) / 6)


def test_ece_of_predictions_that_keep_their_promise_is_zero():
    labels = np.tile([1, 0, 0, 0], 10)
    value, bins = ece(labels, np.full(40, 0.25))
    assert value == 0.0
    assert len(bins) == 1


def test_ece_keeps_equal_predictions_in_one_bin():
    labels = np.array([0, 1] * 30)
    probabilities = np.repeat([0.1, 0.5, 0.9], 20)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(60)
        value, bins = ece(labels[order], probabilities[order], bins=7)
        assert value == pytest.approx((0.4 + 0.0 + 0.4) / 3, abs=1e-15)
        assert [one.count for one in bins] == [20, 20, 20]


def test_ece_bins_of_distinct_predictions_differ_by_at_most_one_row():
    rng = np.random.default_rng(0)
    _, bins = ece(rng.integers(0, 2, 1003), rng.random(1003), bins=20)
    counts = [one.count for one in bins]
    assert len(counts) == 20
    assert sum(counts) == 1003
    assert set(counts) <= {50, 51}
    assert [one.predicted for one in bins] == sorted(one.predicted for one in bins)


def test_ece_without_rows_and_with_one_class():
    assert ece([], []) == (None, [])
    assert ece([0, 0], [0.25, 0.25])[0] == 0.25


@pytest.mark.parametrize("metric", [auc, log_loss, normalized_entropy])
def test_weight_zero_equals_dropping_the_row(metric):
    labels, logits, weights = tied_data(7)
    kept = weights > 0
    assert not kept.all()
    assert metric(labels, logits, weights) == pytest.approx(
        metric(labels[kept], logits[kept], weights[kept]), abs=1e-13
    )


def test_weight_zero_equals_dropping_the_row_in_calibration():
    labels, logits, weights = tied_data(7)
    kept = weights > 0
    assert calibration(labels, sigmoid(logits), weights) == pytest.approx(
        calibration(labels[kept], sigmoid(logits[kept]), weights[kept]), abs=1e-13
    )


@pytest.mark.parametrize("metric", [auc, log_loss, normalized_entropy])
def test_a_whole_weight_equals_repeating_the_row(metric):
    labels, logits, _ = tied_data(8)
    weights = np.random.default_rng(8).integers(0, 4, len(labels))
    assert metric(labels, logits, weights) == pytest.approx(
        metric(np.repeat(labels, weights), np.repeat(logits, weights)), abs=1e-13
    )


def test_no_weight_on_a_class_is_none():
    assert auc([0, 1], [0, 1], [0, 1]) is None
    assert log_loss([0, 1], [0, 1], [0, 0]) is None
    assert normalized_entropy([0, 1], [0, 1], [1, 0]) is None
    assert calibration([0, 1], [0.1, 0.9], [1, 0]) is None


def test_evaluate_scores_has_the_keys_of_the_report():
    labels, logits, weights = tied_data(9)
    found = evaluate_scores(labels, logits, groups=np.arange(len(labels)) % 9, weights=weights)
    assert set(found) == {"auc", "log_loss", "grouped_auc", "grouped_rows", "normalized_entropy",
                          "calibration", "ece", "weighted"}
    assert found["auc"] == auc(labels, logits)
    assert found["weighted"]["auc"] == auc(labels, logits, weights)
    assert all(type(value) is float for key, value in found.items() if key != "weighted")


def test_evaluate_scores_leaves_out_what_cannot_be_measured():
    assert evaluate_scores([], [], groups=[], weights=[]) == {}
    assert set(evaluate_scores([0, 1], [0, 1])) == {
        "auc", "log_loss", "normalized_entropy", "calibration", "ece"
    }
    assert set(evaluate_scores([0, 0], [0, 1])) == {"log_loss", "ece"}
    assert set(evaluate_scores([1, 1], [0, 1])) == {"log_loss", "calibration", "ece"}


def test_evaluate_scores_takes_float32_and_float64_alike():
    labels, logits, _ = tied_data(4)  # quarters: exact in float32
    assert evaluate_scores(labels, logits.astype(np.float32)) == evaluate_scores(labels, logits)


def test_logits_that_are_not_finite_are_counted():
    with pytest.raises(DataError, match=r"logits must be finite, got 2 NaN or infinite of 3 rows"):
        evaluate_scores([0, 1, 1], [np.nan, 1.0, -np.inf])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auc([0, 2], [1, 2]), "labels must be 0 or 1, got 1 other values of 2 rows"),
        (lambda: auc([0, np.nan], [1, 2]), "labels must be 0 or 1, got 1 other values"),
        (lambda: auc([[0], [1]], [1, 2]), r"labels must have one dimension, got shape \(2, 1\)"),
        (lambda: auc([0, 1], [[1], [2]]), r"scores must have shape \(2,\) .* got \(2, 1\)"),
        (lambda: auc([0, 1], [1, np.nan]), "scores must be finite, got 1"),
        (lambda: auc([0, 1], [1, 2], [1, -1]), "weights must be >= 0, got 1 negative"),
        (lambda: grouped_auc([0, 1], [1, 2], [1]), r"groups must have shape \(2,\)"),
        (lambda: calibration([0, 1], [0.5, 1.5]), r"probabilities must lie in \[0, 1\], got 1"),
        (lambda: ece([0, 1], [0.5, 0.5], bins=0), "bins must be >= 1, got 0"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(DataError, match=message):
        call()
