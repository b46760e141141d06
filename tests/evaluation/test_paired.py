import numpy as np
import pytest
from scipy import stats

from dualdnn.errors import DataError
from dualdnn.evaluation.bootstrap import bootstrap
from dualdnn.evaluation.metrics import auc, ece, log_loss, sigmoid
from dualdnn.evaluation.paired import ComparedRows, holm, paired_difference


def two_systems(rng, rows=80, seeds=3, users=10):
    """Labels, users, and logits (seeds, rows) of two systems that both know a little."""
    user = rng.integers(0, users, rows)
    truth = rng.normal(size=rows) + rng.normal(size=users)[user]
    labels = (rng.random(rows) < sigmoid(truth)).astype(float)
    first = truth + 0.5 * rng.normal(size=(seeds, rows))
    return labels, user, first, truth + 1.0 * rng.normal(size=(seeds, rows))


def difference(labels, first, second, metric="auc", groups=None, **given):
    same = {key: given.pop(key) for key in ("same_seeds",) if key in given}
    rows = ComparedRows(labels, groups, **given)
    return paired_difference(rows.measured(first, metric), rows.measured(second, metric), **same)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_every_draw_is_the_metric_of_the_rows_repeated(metric):
    rng = np.random.default_rng(0)
    labels, users, logits, _ = two_systems(rng)
    logits = np.round(logits, 1)  # with ties
    stands_for = rng.integers(0, 4, 80).astype(float)
    rows = ComparedRows(labels, users, stands_for, resamples=30)
    found = rows.measured(logits, metric)
    of = auc if metric == "auc" else log_loss
    for z, value, draws in zip(logits, found.values, found.draws, strict=True):
        assert value == pytest.approx(of(labels, z, stands_for))
        slow = [of(labels, z, stands_for * draw[rows._cluster]) for draw in rows._draws]
        np.testing.assert_allclose(draws, slow, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_calibration_error_of_a_draw_is_that_of_its_rows_in_the_bins_of_all_rows(weighted):
    labels, users, logits, _ = two_systems(np.random.default_rng(14), rows=400)
    logits = np.round(logits, 1)
    weights = np.random.default_rng(15).integers(1, 4, 400) if weighted else None
    of_rows = np.ones(400) if weights is None else weights
    rows = ComparedRows(labels, users, weights, resamples=30)
    found = rows.measured(logits, "ece")
    for z, value, draws in zip(logits, found.values, found.draws, strict=True):
        p = sigmoid(z)
        error, bins = ece(labels, p, weights, bins=20)
        assert value == pytest.approx(error)
        # Bins are told by their counts, from the lowest prediction up.
        bin_of = np.empty(400, int)
        bin_of[np.argsort(p, kind="stable")] = np.repeat(np.arange(len(bins)),
                                                         [one.count for one in bins])
        for draw, drawn in zip(rows._draws, draws, strict=True):
            index = np.repeat(np.arange(400), draw[rows._cluster].astype(int))
            excess = of_rows[index] * (p[index] - labels[index])
            slow = sum(abs(excess[bin_of[index] == one].sum())
                       for one in range(len(bins))) / of_rows[index].sum()
            assert drawn == pytest.approx(slow)


@pytest.mark.parametrize("metric", ["auc", "log_loss", "ece"])
def test_a_row_of_weight_0_is_no_row(metric):
    labels, users, logits, _ = two_systems(np.random.default_rng(16), rows=200)
    weights = np.random.default_rng(17).integers(0, 3, 200)
    kept = weights > 0
    found = ComparedRows(labels, users, weights, resamples=30).measured(logits, metric)
    fewer = ComparedRows(labels[kept], users[kept], weights[kept], resamples=30).measured(
        logits[:, kept], metric)
    np.testing.assert_allclose(found.values, fewer.values)
    np.testing.assert_allclose(found.draws, fewer.draws)


def slow_variance(labels, users, first, second, resamples, seed):
    """Draw users and seeds, and score the drawn rows anew."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(users == user) for user in np.unique(users)]
    values = []
    for _ in range(resamples):
        index = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        chosen = rng.integers(len(first), size=len(first))
        values.append(np.mean([log_loss(labels[index], first[s][index])
                               - log_loss(labels[index], second[s][index]) for s in chosen]))
    return np.var(values, ddof=1)


def test_the_error_is_that_of_drawing_users_and_seeds_where_they_do_not_interact():
    # Users and seeds add up, so that drawing both in one go has no common part to count thrice:
    # its variance is rows (1 - 1 / users) + seeds (1 - 1 / number of seeds).
    rng = np.random.default_rng(1)
    user = rng.integers(0, 15, 120)
    logits = 1e-4 * (rng.normal(size=15)[user] + 0.6 * rng.normal(size=(6, 1)))
    labels, other = np.ones(120), np.zeros((6, 120))
    found = difference(labels, logits, other, "log_loss", user, resamples=4000)
    seeds = np.var(-logits.mean(axis=1) / 2, ddof=1) / 6
    rows = slow_variance(labels, user, logits, other, 4000, 2) - seeds * (1 - 1 / 6)
    assert seeds > 0.3 * rows > 0  # both matter here
    assert found.error**2 == pytest.approx(15 / 14 * rows + seeds, rel=0.05)


def test_one_seed_is_the_bootstrap_over_groups():
    rng = np.random.default_rng(3)
    labels, users, first, second = two_systems(rng, rows=400, seeds=1, users=40)
    for metric in ("auc", "log_loss"):
        found = difference(labels, first, second, metric, users, resamples=500)
        known = bootstrap(labels, first, second, metric=metric, factors=[users], resamples=500)
        assert found.value == pytest.approx(known.value)
        assert found.error == pytest.approx(known.error, rel=1e-9)
        assert found.degrees == pytest.approx(39)
        assert found.clusters == 40


def test_seeds_that_differ_and_rows_that_do_not_make_a_t_test_over_seeds():
    rng = np.random.default_rng(4)
    shifts = 1e-5 * rng.normal(size=7)
    first = shifts[:, np.newaxis] + 1e-8 * rng.normal(size=(7, 500))
    found = difference(np.ones(500), first, np.zeros((7, 500)), "log_loss")
    expected = stats.ttest_1samp(-shifts / 2, 0.0)
    assert found.value == pytest.approx(-shifts.mean() / 2, rel=1e-3)
    assert found.degrees == pytest.approx(6, rel=1e-3)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=1e-2)
    low, high = found.interval()
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-2)


def test_other_seeds_make_a_t_test_of_welch():
    rng = np.random.default_rng(5)
    one, other = 1e-5 * rng.normal(size=7), 3e-5 * rng.normal(size=4)
    first, second = (np.repeat(of[:, np.newaxis], 300, axis=1) for of in (one, other))
    found = difference(np.ones(300), first, second, "log_loss", same_seeds=False)
    expected = stats.ttest_ind(-one / 2, -other / 2, equal_var=False)
    assert found.degrees == pytest.approx(expected.df, rel=1e-2)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=1e-2)


def test_what_is_common_to_rows_and_seeds_is_counted_once():
    # All noise is of single rows and single seeds: the truth is sigma / sqrt(seeds * rows).
    rng = np.random.default_rng(6)
    seeds, rows = 8, 400
    errors, added = [], []
    for trial in range(40):
        first = 1e-3 * rng.normal(size=(seeds, rows))
        found = difference(np.ones(rows), first, np.zeros((seeds, rows)), "log_loss",
                           resamples=300, seed=trial)
        known = bootstrap(np.ones(rows), first, np.zeros((seeds, rows)), metric="log_loss",
                          resamples=300, seed=trial)
        errors.append(found.error**2)
        added.append(known.error**2)
        # What is common is an estimate too, and takes away no more than the rows have.
        assert found.degrees >= seeds - 1 - 1e-9
        between = np.var(-first.mean(axis=1) / 2, ddof=1) / seeds
        assert found.error**2 >= 0.99 * between
    truth = (0.5e-3) ** 2 / (seeds * rows)
    assert np.mean(added) == pytest.approx(2 * truth, rel=0.2)
    # The floor keeps it above, never below.
    assert truth * 0.95 < np.mean(errors) < 1.35 * truth


def covered(trials, seeds, users, resamples, rng, *, effect=0.3, seed_noise=0.05):
    """Share of trials whose interval holds the expected difference in log loss.

    Losses near 0 are linear in tiny logits, so that the expectation is known: users, seeds and
    (user, seed) each add noise of their own.
    """
    hits = 0
    for trial in range(trials):
        user = np.repeat(np.arange(users), 3)
        logits = (effect + rng.normal(size=users)[user] + rng.normal(size=(seeds, 1)) * seed_noise
                  + rng.normal(size=(seeds, users))[:, user])
        found = difference(np.ones(3 * users), 1e-3 * logits, np.zeros_like(logits), "log_loss",
                           user, resamples=resamples, seed=trial)
        low, high = found.interval(0.95)
        hits += low <= -0.5e-3 * effect <= high
    return hits / trials


@pytest.mark.parametrize("seed_noise", [0.0, 0.3])
def test_intervals_cover(seed_noise):
    share = covered(250, 5, 60, 150, np.random.default_rng(7), seed_noise=seed_noise)
    assert 0.91 <= share <= 0.985  # standard error 0.014


@pytest.mark.prove
@pytest.mark.parametrize(("seeds", "seed_noise"), [
    (1, 0.0),  # and with noise it knows nothing of other seeds
    *((seeds, noise) for seeds in (2, 3, 5, 10) for noise in (0.0, 0.1, 0.5))])
def test_intervals_cover_for_any_number_of_seeds(seeds, seed_noise):
    share = covered(2000, seeds, 80, 300, np.random.default_rng(8), seed_noise=seed_noise)
    # Two or three seeds can agree by chance, and then look better known than they are.
    lowest = {2: 0.85, 3: 0.90}.get(seeds, 0.93) if seed_noise > 0.1 else 0.93
    assert lowest <= share <= 0.98


@pytest.mark.prove
def test_intervals_of_auc_cover_the_true_difference():
    # Users differ in taste; two systems see it through different noise, new for every seed. The
    # truth is the difference over very many users and seeds.
    def drawn(rng, users, seeds):
        user = np.repeat(np.arange(users), 6)
        taste = rng.normal(size=users)[user] + 0.7 * rng.normal(size=6 * users)
        labels = (rng.random(6 * users) < sigmoid(taste - 0.5)).astype(float)
        tilt = 0.2 * rng.normal(size=(2, seeds, 1))
        noise = rng.normal(size=(2, seeds, 6 * users))
        return labels, user, taste + (0.8 + tilt[0]) * noise[0], taste + (1 + tilt[1]) * noise[1]

    rng = np.random.default_rng(9)
    many = [drawn(rng, 4000, 1) for _ in range(60)]
    truth = np.mean([auc(labels, a[0]) - auc(labels, b[0]) for labels, _, a, b in many])
    hits, trials = 0, 600
    for trial in range(trials):
        labels, user, first, second = drawn(rng, 60, 5)
        low, high = difference(labels, first, second, "auc", user, resamples=300,
                               seed=trial).interval(0.95)
        hits += low <= truth <= high
    assert 0.925 <= hits / trials <= 0.985


def test_the_order_of_systems_changes_the_sign_alone_and_equals_differ_by_nothing():
    rng = np.random.default_rng(10)
    labels, users, first, second = two_systems(rng)
    there = difference(labels, first, second, groups=users)
    back = difference(labels, second, first, groups=users)
    assert (there.value, there.error) == pytest.approx((-back.value, back.error))
    same = difference(labels, first, first, groups=users)
    assert (same.value, same.error, same.p_value()) == (0, 0, 1)


def test_what_has_no_answer():
    labels = np.array([0.0, 1, 1, 0])
    logits = np.arange(4.0)
    assert ComparedRows(np.ones(4)).measured(logits, "auc") is None
    alone = difference(labels, logits, -logits, groups=np.zeros(4))
    assert (alone.error, alone.p_value(), alone.clusters) == (None, None, 1)
    assert alone.value == 0.5 - 0.5
    few = difference(np.r_[1.0, np.zeros(40)], np.arange(41.0), -np.arange(41.0))
    assert few.value == -1
    assert few.error is None  # more than a tenth of the draws lack the positive


def test_mistakes_are_named():
    rng = np.random.default_rng(11)
    labels, users, first, second = two_systems(rng)
    with pytest.raises(DataError, match=r"groups must have shape \(80,\) .* got \(79,\)"):
        ComparedRows(labels, users[1:])
    with pytest.raises(DataError, match="no test rows to compare on"):
        ComparedRows([])
    with pytest.raises(ValueError, match="resamples must be >= 2, got 1"):
        ComparedRows(labels, resamples=1)
    rows = ComparedRows(labels, users, resamples=10)
    with pytest.raises(ValueError, match="one of auc, log_loss, ece, got 'accuracy'"):
        rows.measured(first, "accuracy")
    one, three = rows.measured(first[0], "auc"), rows.measured(second, "auc")
    with pytest.raises(ValueError, match="as many seeds of both, got 1 and 3"):
        paired_difference(one, three)
    other = ComparedRows(labels, users, resamples=10).measured(first, "auc")
    with pytest.raises(DataError, match="measured on the same rows"):
        paired_difference(three, other)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    # 3 * 0.4 is more than certain, and the next may not be less than one before it.
    assert holm({"a": 0.5, "b": 0.4, "c": 0.45}) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert holm({"a": 0.03, "b": None}) == {"a": 0.03, "b": None}
    assert holm({}) == {}
    assert list(holm({"b": 0.2, "a": 0.1})) == ["b", "a"]


def test_holm_rejects_what_the_steps_of_holm_reject():
    rng = np.random.default_rng(12)
    for _ in range(50):
        p = dict(enumerate(rng.random(6) ** 3))
        corrected = holm(p)
        left, rejected = sorted(p, key=p.get), set()
        while left and p[left[0]] <= 0.05 / len(left):
            rejected.add(left.pop(0))
        assert {name for name in p if corrected[name] <= 0.05} == rejected


def test_holm_keeps_the_chance_of_any_false_finding():
    rng = np.random.default_rng(13)
    false = [min(holm(dict(enumerate(rng.random(5)))).values()) <= 0.05 for _ in range(2000)]
    assert np.mean(false) == pytest.approx(0.05, abs=0.02)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"p-value of a must lie in \[0, 1\], got 1.2"):
        holm({"a": 1.2})
