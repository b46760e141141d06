import itertools

import numpy as np
import pytest

from dualdnn.errors import DataError
from dualdnn.evaluation import bootstrap as module
from dualdnn.evaluation.bootstrap import bootstrap
from dualdnn.evaluation.metrics import auc, calibration, log_loss, sigmoid
from dualdnn.evaluation.significance import auc_difference


def two_models(rng, rows, noise=0.5):
    """Labels, and the logits of a good and of a noisier model."""
    logits = rng.normal(size=rows) - 1
    labels = (rng.random(rows) < sigmoid(logits)).astype(float)
    return labels, logits, logits + noise * rng.normal(size=rows)


def weighted(labels, logits, cluster, draw, metric, of_rows=1.0):
    """The metric of one draw, row by row."""
    weights = np.asarray(draw, float)[cluster] * of_rows
    if metric == "auc":
        return auc(labels, logits, weights)
    if metric == "log_loss":
        return log_loss(labels, logits, weights)
    return calibration(labels, sigmoid(logits), weights)


@pytest.mark.parametrize("metric", module.METRICS)
@pytest.mark.parametrize("decimals", [6, 0], ids=["untied", "tied"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "weighted"])
def test_a_draw_is_the_metric_with_the_groups_repeated(metric, decimals, equal):
    rng = np.random.default_rng(0)
    labels, first, second = two_models(rng, 60)
    first, second = np.round(first, decimals), np.round(second, decimals)
    cluster = rng.integers(0, 6, 60)
    draws = rng.integers(0, 4, (20, 6)).astype(float)
    weights = np.ones(60) if equal else rng.integers(0, 4, 60).astype(float)
    statistic = module._statistic(labels, weights, first[np.newaxis], second[np.newaxis], metric)
    expected = [weighted(labels, first, cluster, draw, metric, weights)
                - weighted(labels, second, cluster, draw, metric, weights) for draw in draws]
    np.testing.assert_allclose(statistic(cluster, 6, draws), expected, atol=1e-12)


@pytest.mark.parametrize("metric", module.METRICS)
def test_whole_weights_are_rows_repeated_within_their_group(metric):
    rng = np.random.default_rng(3)
    labels, first, second = two_models(rng, 300)
    users, weights = rng.integers(0, 40, 300), rng.integers(0, 3, 300)
    found = bootstrap(labels, first, second, metric=metric, factors=[users], weights=weights)
    again = bootstrap(*(np.repeat(one, weights) for one in (labels, first, second)),
                      metric=metric, factors=[np.repeat(users, weights)])
    assert found.value == pytest.approx(again.value, abs=1e-12)
    assert found.error == pytest.approx(again.error, rel=1e-9)


def test_every_possible_draw_of_three_groups():
    # 27 equally likely draws: the exact variance of the bootstrap, which many draws approach.
    labels = np.array([0.0, 1, 1, 0, 1, 0])
    logits = np.array([-1.0, 0.5, 0.2, 0.3, 2, -2])
    users = np.array([0, 0, 1, 1, 2, 2])
    draws = [np.bincount(draw, minlength=3) for draw in itertools.product(range(3), repeat=3)]
    values = [weighted(labels, logits, users, draw, "log_loss") for draw in draws]
    found = bootstrap(labels, logits, metric="log_loss", factors=[users], resamples=20_000)
    assert found.error**2 == pytest.approx(np.var(values) * 3 / 2, rel=0.03)


def test_single_rows_agree_with_delong():
    labels, first, second = two_models(np.random.default_rng(1), 4000)
    difference, error = auc_difference(labels, first, second)
    found = bootstrap(labels, first, second, metric="auc")
    assert found.value == pytest.approx(difference, abs=1e-12)
    assert found.error == pytest.approx(error, rel=0.1)


def test_single_rows_agree_with_the_closed_form_of_a_mean():
    labels, first, second = two_models(np.random.default_rng(2), 3000)
    loss = np.logaddexp(0, (1 - 2 * labels) * first) - np.logaddexp(0, (1 - 2 * labels) * second)
    found = bootstrap(labels, first, second, metric="log_loss")
    assert found.value == pytest.approx(loss.mean())
    assert found.error == pytest.approx(loss.std() / 3000**0.5, rel=0.1)
    low, high = found.interval(0.95)
    assert (high - low) / 2 == pytest.approx(1.96 * found.error, rel=0.01)


def test_copies_of_a_row_tell_nothing_new():
    labels, first, second = two_models(np.random.default_rng(3), 400)
    once = bootstrap(labels, first, second, metric="auc", resamples=4000)
    copied = [np.repeat(one, 10) for one in (labels, first, second)]
    grouped = bootstrap(*copied, metric="auc", factors=[np.repeat(np.arange(400), 10)],
                        resamples=4000)
    fooled = bootstrap(*copied, metric="auc", resamples=4000)
    assert grouped.error == pytest.approx(once.error, rel=1e-9)
    assert fooled.error < 0.4 * once.error


def test_many_groups_are_put_together_and_levels_bounded(monkeypatch):
    labels, first, second = two_models(np.random.default_rng(4), 6000)
    users = np.arange(6000) // 4
    coarse = bootstrap(labels, first, second, metric="auc", factors=[users])
    _, delong = auc_difference(labels, first, second)
    assert coarse.error == pytest.approx(delong, rel=0.12)
    assert coarse.clusters == 1500
    assert coarse.value == pytest.approx(auc(labels, first) - auc(labels, second))
    monkeypatch.setattr(module, "_MOST_LEVELS", 6000)
    exact = bootstrap(labels, first, second, metric="auc", factors=[users])
    assert coarse.error == pytest.approx(exact.error, rel=1e-3)


def test_the_same_seed_draws_the_same():
    labels, first, second = two_models(np.random.default_rng(5), 300)
    users = np.arange(300) // 3
    errors = [bootstrap(labels, first, second, metric="auc", factors=[users], seed=seed).error
              for seed in (7, 7, 8)]
    assert errors[0] == errors[1] != errors[2]


def test_order_of_rows_and_names_of_groups_do_not_matter():
    rng = np.random.default_rng(6)
    labels, first, second = two_models(rng, 300)
    users = rng.integers(0, 40, 300)
    found = bootstrap(labels, first, second, metric="auc", factors=[users])
    order = rng.permutation(300)
    named = np.array([f"u{user:02d}" for user in users])[order]
    again = bootstrap(labels[order], first[order], second[order], metric="auc", factors=[named])
    assert again.error == pytest.approx(found.error, rel=1e-9)


def test_equal_scores_differ_by_nothing():
    labels, first, _ = two_models(np.random.default_rng(7), 200)
    found = bootstrap(labels, first, first, metric="auc")
    assert (found.value, found.error) == (0, 0)
    assert found.interval(0.99) == (0, 0)


@pytest.mark.parametrize("metric", ["auc", "calibration"])
def test_one_class_is_not_measured(metric):
    assert bootstrap(np.zeros(5), np.arange(5.0), metric=metric) is None


def test_a_lone_positive_has_no_error_and_an_open_interval():
    labels = np.zeros(50)
    labels[3] = 1
    found = bootstrap(labels, np.arange(50.0), metric="auc")
    assert found.error is None
    assert found.interval() == (-np.inf, np.inf)


def test_one_group_has_no_error():
    labels, first, second = two_models(np.random.default_rng(8), 50)
    found = bootstrap(labels, first, second, metric="log_loss", factors=[np.zeros(50)])
    assert found.error is None
    assert found.clusters == 1


def test_mistakes_are_named():
    labels, first, second = two_models(np.random.default_rng(9), 10)
    with pytest.raises(DataError, match=r"same rows, got scores of shape \(1, 10\) and \(1, 9\)"):
        bootstrap(labels, first, second[:9], metric="auc")
    with pytest.raises(DataError, match="a factor must have shape"):
        bootstrap(labels, first, second, metric="auc", factors=[np.zeros(9)])
    with pytest.raises(DataError, match="must be finite, got 10 NaN or infinite of 10"):
        bootstrap(labels, np.full(10, np.inf), metric="calibration")
    with pytest.raises(ValueError, match="got 'f1'"):
        bootstrap(labels, first, metric="f1")


def test_a_p_value_goes_with_the_interval():
    labels, first, second = two_models(np.random.default_rng(14), 300)
    found = bootstrap(labels, first, second, metric="auc")
    p = found.p_value()
    assert 0 < p < 1
    for level, holds in ((1 - 1.01 * p, True), (1 - 0.99 * p, False)):
        low, high = found.interval(level)
        assert (low > 0 or high < 0) == holds
    assert bootstrap(labels, first, first, metric="auc").p_value() == 1
    assert bootstrap(labels, first, first - 1, metric="log_loss").p_value() < 1e-3
    assert bootstrap(labels, first, metric="auc", factors=[np.zeros(300)]).p_value() is None


def covered(rng, trials, one_trial):
    """Share of trials whose 90% interval holds the truth."""
    return np.mean([low <= truth <= high
                    for truth, (low, high) in (one_trial(rng) for _ in range(trials))])


def test_intervals_over_users_cover():
    # Every user has a label of their own liking, so rows alone would be far too sure.
    rate = 0.4

    def trial(rng):
        users = np.repeat(np.arange(60), 8)
        tastes = rng.beta(0.4, 0.6, 60)
        labels = (rng.random(480) < tastes[users]).astype(float)
        found = bootstrap(labels, np.zeros(480), metric="calibration", factors=[users],
                          resamples=200, seed=int(rng.integers(1e9)))
        return 0.5 / rate, found.interval(0.9)

    assert covered(np.random.default_rng(10), 300, trial) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("factors", ["days", "users", "both"])
def test_only_days_and_users_together_cover_where_both_matter(factors):
    def trial(rng):
        day, user = (axis.ravel() for axis in np.meshgrid(np.arange(25), np.arange(25)))
        first = 0.5 * rng.normal(size=25)[day] + 0.5 * rng.normal(size=25)[user]
        first = first + 0.3 * rng.normal(size=625)
        # The loss of a label 1 at logit z grows by -z near 0 against a constant: linear and small.
        scale = 1e-4
        chosen = {"days": [day], "users": [user], "both": [day, user]}[factors]
        found = bootstrap(np.ones(625), scale * first, np.zeros(625), metric="log_loss",
                          factors=chosen, resamples=200, seed=int(rng.integers(1e9)))
        return 0.0, found.interval(0.9)

    share = covered(np.random.default_rng(11), 200, trial)
    if factors == "both":
        assert share == pytest.approx(0.9, abs=0.06)
    else:
        assert share < 0.83


def test_seeds_count_as_well():
    rng = np.random.default_rng(12)
    labels = np.ones(2000)
    # Rows hardly differ, seeds do: seven trainings say as much as seven numbers.
    shifts = rng.normal(size=7)
    first = 1e-4 * (shifts[:, np.newaxis] + 1e-3 * rng.normal(size=(7, 2000)))
    found = bootstrap(labels, first, np.zeros((7, 2000)), metric="log_loss")
    assert found.value == pytest.approx(-0.5e-4 * shifts.mean(), rel=1e-3)
    assert found.error == pytest.approx(0.5e-4 * shifts.std(ddof=1) / 7**0.5, rel=1e-2)
    assert found.degrees == pytest.approx(6, rel=1e-3)


def test_seeds_are_averaged():
    rng = np.random.default_rng(13)
    labels, first, second = two_models(rng, 200)
    third, fourth = first + rng.normal(size=200), second + rng.normal(size=200)
    found = bootstrap(labels, np.stack([first, third]), np.stack([second, fourth]), metric="auc")
    assert found.value == pytest.approx(
        (auc(labels, first) + auc(labels, third) - auc(labels, second) - auc(labels, fourth)) / 2)
