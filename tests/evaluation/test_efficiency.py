"""Distillation efficiency: the ratio, its interval, and when there is none."""

import numpy as np
import pytest

from dualdnn.evaluation.efficiency import efficiency
from dualdnn.evaluation.paired import ComparedRows, Resampled
from dualdnn.evaluation.student_t import student_quantile

TEST = object()
CLUSTERS, DRAWS = 400, 4000


def resampled(values, draws):
    return Resampled(values=np.asarray(values, float), draws=np.asarray(draws, float),
                     groups=CLUSTERS, clusters=CLUSTERS, test=TEST)


def one_seed(seed=0, *, headroom=0.02, share=0.75, noise=0.002):
    """Alone, teacher and student of one seed; draws move all three, partly together."""
    rng = np.random.default_rng(seed)
    common, mine, theirs, other = noise * rng.normal(size=(4, DRAWS))
    means = 0.7, 0.7 + headroom, 0.7 + share * headroom
    return [resampled([mean], [mean + 5 * common + own])
            for mean, own in zip(means, (mine, theirs, other), strict=True)]


def test_the_share_of_the_way():
    alone, teacher, student = one_seed()
    assert efficiency(student, teacher, alone)["value"] == pytest.approx(0.75)
    assert efficiency(teacher, teacher, alone)["value"] == pytest.approx(1)
    assert efficiency(alone, teacher, alone)["value"] == pytest.approx(0)


def test_over_seeds_it_is_a_ratio_of_means_and_not_a_mean_of_ratios():
    rng = np.random.default_rng(0)

    def tower(*by_seed):
        # The same two seeds eight times, since two say too little of their spread.
        values = np.tile(by_seed, 8)
        return resampled(values, values[:, None] + 1e-4 * rng.normal(size=(16, DRAWS)))

    # Headroom is 0.02 and 0.01 by seed, of which the student has all and nothing: 1/2 as a mean.
    found = efficiency(tower(0.72, 0.7), tower(0.72, 0.71), tower(0.7, 0.7))
    assert found["value"] == pytest.approx(2 / 3)
    assert found["low"] < 1 / 2  # and the seeds say that it is not well known


def test_the_interval_is_fiellers():
    alone, teacher, student = one_seed(3)
    found = efficiency(student, teacher, alone)
    gain, room = student.draws[0] - alone.draws[0], teacher.draws[0] - alone.draws[0]
    (v_n, cov), (_, v_d) = CLUSTERS / (CLUSTERS - 1) * np.cov(gain, room)
    n, d = 0.015, 0.02
    t = student_quantile(0.975, CLUSTERS - 1)
    # (n - r d)^2 = t^2 (v_n - 2 r cov + r^2 v_d)
    roots = np.sort(np.roots([d**2 - t**2 * v_d, -2 * (n * d - t**2 * cov), n**2 - t**2 * v_n]))
    assert [found["low"], found["high"]] == pytest.approx(roots.tolist(), rel=1e-6)


def test_intervals_hold_the_truth():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng([seed, 9])
        means = np.array([0.7, 0.72, 0.715]) + 0.002 * rng.normal(size=3)
        draws = means[:, None] + 0.002 * rng.normal(size=(3, 400))
        alone, teacher, student = (resampled([mean], [one])
                                   for mean, one in zip(means, draws, strict=True))
        found = efficiency(student, teacher, alone)
        hits += found["low"] <= 0.75 <= found["high"]
    assert 182 <= hits <= 198  # 190 are expected


def test_without_headroom_there_is_none():
    alone, teacher, student = one_seed(headroom=0.005)
    assert efficiency(student, teacher, alone) is None  # 0.005 is below 3 * 0.0028
    alone, teacher, student = one_seed()
    assert efficiency(student, alone, teacher) is None  # a teacher below alone
    once = [resampled(one.values, np.empty((1, 0))) for one in (student, teacher, alone)]
    assert efficiency(*once) is None  # nothing is known of its error


def test_real_scores_on_real_rows():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=3000)
    labels = (rng.random(3000) < 1 / (1 + np.exp(-truth))).astype(float)
    rows = ComparedRows(labels, rng.integers(0, 200, 3000), resamples=300)

    def measured(noise):
        return rows.measured(truth + noise * rng.normal(size=(3, 3000)), "auc")

    alone, teacher, student = measured(2.0), measured(0.1), measured(0.5)
    found = efficiency(student, teacher, alone)
    assert found["value"] == pytest.approx(
        (student.values.mean() - alone.values.mean())
        / (teacher.values.mean() - alone.values.mean()))
    assert 0 < found["low"] < found["value"] < found["high"] < 1.1
