import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dualdnn.evaluation.significance import auc_difference


def by_the_book(labels, first, second):
    """DeLong et al. 1988 with every pair of rows written out."""
    positive = labels == 1
    components = []
    for scores in (first, second):
        x, y = scores[positive][:, None], scores[~positive][None, :]
        wins = (x > y) + 0.5 * (x == y)
        components.append((wins.mean(axis=1), wins.mean(axis=0)))
    difference = components[0][0].mean() - components[1][0].mean()
    variance = sum(np.var(a - b, ddof=1) / len(a) for a, b in zip(*components, strict=True))
    return difference, np.sqrt(variance)


@pytest.mark.parametrize("decimals", [6, 1])
def test_equals_the_slow_form_also_with_ties(decimals):
    rng = np.random.default_rng(3)
    labels = (rng.random(80) < 0.3).astype(int)
    first = np.round(rng.normal(size=80) + labels, decimals)
    second = np.round(0.5 * first + rng.normal(size=80), decimals)
    difference, error = auc_difference(labels, first, second)
    expected = by_the_book(labels, first, second)
    assert (difference, error) == pytest.approx(expected, rel=1e-9)
    assert difference == pytest.approx(
        roc_auc_score(labels, first) - roc_auc_score(labels, second))


def test_order_changes_the_sign_alone():
    rng = np.random.default_rng(4)
    labels, first, second = rng.integers(0, 2, 50), rng.normal(size=50), rng.normal(size=50)
    there, back = auc_difference(labels, first, second), auc_difference(labels, second, first)
    assert there == pytest.approx((-back[0], back[1]))


def test_scores_that_rank_alike_do_not_differ():
    labels, scores = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8, 0.2])
    assert auc_difference(labels, scores, np.exp(scores)) == (0.0, 0.0)


def test_error_is_the_spread_over_new_samples():
    rng = np.random.default_rng(5)
    differences, errors = [], []
    for _ in range(300):
        labels = rng.integers(0, 2, 300)
        shared = rng.normal(size=300) + labels
        found = auc_difference(labels, shared + 0.3 * rng.normal(size=300),
                               shared + 1.0 * rng.normal(size=300))
        differences.append(found[0])
        errors.append(found[1])
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.15)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1], []])
def test_fewer_than_two_rows_of_a_class_is_not_measured(labels):
    scores = np.arange(len(labels), dtype=float)
    assert auc_difference(labels, scores, scores) is None
