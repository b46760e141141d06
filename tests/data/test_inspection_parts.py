import datetime

import numpy as np
import pytest

from dualdnn.data.inspection.drift import (
    days_before,
    days_that_stand_out,
    drift_by_day,
    first_and_last_third,
    population_stability_index,
    tells_the_day,
)
from dualdnn.data.inspection.number_sketch import DistinctSample, NumberSketch
from dualdnn.data.inspection.own_label import OwnLabelMoves, scatter_over_coin_flips
from dualdnn.data.inspection.score_tally import ScoreTally, auc_of_counts, smoothed_log_odds
from dualdnn.data.inspection.value_totals import ValueTotals
from dualdnn.evaluation.metrics import auc


def test_totals_by_hand():
    totals = ValueTotals()
    totals.add(np.array([3, 7]), np.array([2, 1]), np.array([1, 0]), day=10)
    totals.add(np.array([1, 7]), np.array([5, 2]), np.array([5, 2]), day=11)
    assert totals.signs.tolist() == [1, 3, 7]
    assert totals.counts.tolist() == [5, 2, 3]
    assert totals.positives.tolist() == [5, 1, 2]
    assert totals.last_day.tolist() == [11, 10, 11]
    assert totals.positions(np.array([0, 3, 9])).tolist() == [-1, 1, -1]
    assert totals.unseen_since(np.array([1, 3, 4]), 11).tolist() == [False, True, True]
    assert totals.top(2).tolist() == [0, 2]
    assert totals.top(0).tolist() == []


def test_the_order_of_top_values_does_not_depend_on_chance():
    totals = ValueTotals()
    totals.add(np.arange(50), np.full(50, 4), np.zeros(50, np.int64), day=1)
    assert totals.top(3).tolist() == [0, 1, 2]


def test_a_tally_is_the_exact_auc_up_to_its_bins():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 5000)
    scores = rng.normal(size=5000) + labels
    tally = ScoreTally()
    for part in np.array_split(np.arange(5000), 7):
        tally.add(scores[part], labels[part])
    assert tally.auc() == pytest.approx(auc(labels, scores), abs=1e-3)


def test_an_auc_of_counts_by_hand():
    # Negatives at 0, 0, 1 and positives at 1, 2: six pairs, of which one is a tie.
    assert auc_of_counts(np.array([2, 1, 0]), np.array([0, 1, 1])) == pytest.approx(5.5 / 6)
    assert auc_of_counts(np.array([2, 1]), np.array([0, 0])) is None


def test_few_rows_are_pulled_to_the_rate():
    log_odds = smoothed_log_odds(np.array([0, 1, 1000]), np.array([0, 1, 1000]), 0.5)
    assert log_odds[0] == pytest.approx(0)
    assert log_odds[1] == pytest.approx(np.log(6 / 5))
    assert log_odds[2] == pytest.approx(np.log(1005 / 5))


def test_quantiles_of_many_days_are_close_to_the_exact_ones():
    rng = np.random.default_rng(0)
    days = [rng.exponential(size=3000) * (1 + day / 50) for day in range(200)]
    sketch = NumberSketch()
    for values in days:
        sketch.add(*np.unique(values, return_counts=True))
    everything = np.sort(np.concatenate(days))
    for share in (0.01, 0.5, 0.99):
        (value,) = sketch.quantiles(np.array([share]))
        assert np.searchsorted(everything, value) / len(everything) == pytest.approx(share,
                                                                                     abs=0.002)
    assert len(sketch._values) <= 70_000


def test_quantiles_of_few_values_are_exact():
    sketch = NumberSketch()
    sketch.add(np.array([1.0, 2.0]), np.array([3, 1]))
    sketch.add(np.array([2.0, 9.0]), np.array([3, 1]))
    assert sketch.quantiles(np.array([0.0, 0.25, 0.5, 1.0])).tolist() == [1, 1, 2, 9]
    assert sketch.histogram(np.array([0.0, 1.5, 10.0])).tolist() == [3 / 8, 5 / 8]
    assert NumberSketch().quantiles(np.array([0.5])).tolist() == []


def test_distinct_values_are_exact_until_there_are_many_then_close():
    sample = DistinctSample()
    values = np.arange(400_000) / 7
    for part in np.array_split(values, 8):
        ones = np.ones(len(part), np.int64)
        sample.add(part, ones, ones * 0)
        sample.add(part, ones, ones)
    assert len(sample.values) <= 100_000
    assert sample.distinct == pytest.approx(400_000, rel=0.02)
    # Of the values that are kept nothing is lost.
    assert set(sample.counts.tolist()) == {2}
    assert set(sample.positives.tolist()) == {1}


def test_the_stability_index_by_hand():
    reference, sample = np.array([5000, 5000]), np.array([2000, 8000])
    exact = (0.5 - 0.2) * np.log(0.5 / 0.2) + (0.5 - 0.8) * np.log(0.5 / 0.8)
    index, deviations = population_stability_index(reference, sample)
    assert index == pytest.approx(exact - 2 / 10_000, abs=1e-3)
    assert deviations > 1000
    assert population_stability_index(reference, reference)[0] == 0
    assert population_stability_index(np.array([4, 0]), np.array([9, 0])) == (0.0, 0.0)
    assert population_stability_index(np.array([0, 0]), np.array([9, 1])) == (0.0, 0.0)


def test_without_drift_the_index_is_chance():
    rng = np.random.default_rng(0)
    found = [population_stability_index(rng.multinomial(5000, np.full(12, 1 / 12)),
                                        rng.multinomial(300, np.full(12, 1 / 12)))[1]
             for _ in range(400)]
    assert abs(np.mean(found)) < 0.2
    assert np.std(found) == pytest.approx(1, abs=0.2)
    assert max(found) < 6


def test_rows_of_one_user_are_no_evidence():
    rng = np.random.default_rng(0)
    men = np.repeat(rng.integers(0, 2, 40), 50)
    sample = np.bincount(men, minlength=2)
    as_rows = population_stability_index(np.array([5000, 5000]) + 400, sample)[1]
    as_users = population_stability_index(np.array([5000, 5000]) + 400, sample, (10_000, 40))[1]
    assert as_users == pytest.approx(as_rows / 50, abs=1.5)
    days = drift_by_day(np.array([[5000, 5000], sample]), [slice(0, 0), slice(0, 1)],
                        np.array([10_000, 10]))
    assert days == ([None, None], [None, None])


def dates(*numbers):
    return [datetime.date(2024, 1, number) for number in numbers]


def test_the_days_before_are_calendar_days():
    assert days_before(dates(1, 2, 3, 9, 10), 2) == [
        slice(0, 0), slice(0, 1), slice(0, 2), slice(3, 3), slice(3, 4)]


def test_thirds_of_the_rows():
    assert first_and_last_third(np.array([10, 10, 10])) == (slice(0, 1), slice(2, 3))
    assert first_and_last_third(np.array([1, 1, 1, 97])) == (slice(0, 3), slice(3, 4))
    assert first_and_last_third(np.array([97, 1, 1, 1])) == (slice(0, 1), slice(1, 4))
    assert first_and_last_third(np.array([1, 1])) is None


def test_a_day_stands_out_from_what_is_usual():
    before = days_before(dates(*range(1, 13)), 30)
    calm = [None, 0.9, *[0.1] * 10]
    assert days_that_stand_out(calm, before, 0.25) == []
    assert days_that_stand_out([*calm[:-1], 0.4], before, 0.25) == [11]
    # Where every day is far from the others none is odd; at the beginning none is judged.
    assert days_that_stand_out([None, *[0.5] * 11], before, 0.25) == []
    assert days_that_stand_out([None, None], before[:2], 0.25) == []


def test_a_weekday_tells_the_day():
    assert tells_the_day(np.eye(7, dtype=int)[[0, 1, 2, 3, 4, 5, 6, 0, 1]] * 100)
    assert not tells_the_day(np.array([[60, 40]] * 9))
    # One value on nearly all days: the other days are what one wants to hear of.
    assert not tells_the_day(np.array([[100, 0]] * 9 + [[0, 100]]))


def moves_of(values, labels, entities=None):
    rows = len(values)
    moves = OwnLabelMoves(1)
    days = np.arange(rows) * 10 // rows
    entities = np.arange(rows) % 30 + 1 if entities is None else entities
    for day in range(10):
        at = days == day
        moves.add(entities[at], values[at, None], labels[at], np.arange(rows)[at])
    return moves


def test_moves_are_counted_from_row_to_row_and_over_days():
    moves = OwnLabelMoves(1)
    # User 5: 1, 3, 3 on one day, 2 on the next; user 6: once a day; a missing id never counts.
    moves.add(np.array([5, 6, 5, 5, 0]), np.array([[1.0], [9.0], [3.0], [3.0], [4.0]]),
              np.array([0, 1, 1, 0, 1]), np.array([1, 1, 3, 4, 5]))
    moves.add(np.array([6, 5]), np.array([[9.0], [2.0]]), np.array([1, 0]), np.array([90, 91]))
    row, day = moves.table[0]
    # (fall, stay, rise) by (label 0, label 1)
    assert row.tolist() == [[1, 0], [1, 1], [0, 1]]
    assert day.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_a_number_that_moves_with_the_label_is_told_from_one_that_follows_it():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 6000)
    counts = np.zeros(31)
    itself, earlier = np.zeros(6000), np.zeros(6000)
    for row in range(6000):
        user = row % 30 + 1
        earlier[row] = counts[user]
        counts[user] += labels[row]
        itself[row] = counts[user]
    assert moves_of(itself, labels).strength(0) == 1.0
    assert moves_of(earlier, labels).strength(0) == pytest.approx(0.5, abs=0.05)
    assert moves_of(np.full(6000, np.nan), labels).strength(0) == 0.5


def test_many_ids_are_followed_in_part():
    rng = np.random.default_rng(0)
    moves = OwnLabelMoves(1)
    ids = rng.integers(1, 2**62, 120_000)
    for day in range(2):
        moves.add(ids, np.full((len(ids), 1), float(day)), np.ones(len(ids), np.int64),
                  np.arange(len(ids)) + day * 86400)
    assert len(moves._entities) <= 50_000
    # Who is followed is so on every day: each of them rose once.
    assert 25_000 < moves.table[0, 1, 2, 1] <= 50_000


def distinct_sample(values, labels):
    sample = DistinctSample()
    unique, at = np.unique(values, return_inverse=True)
    sample.add(unique, np.bincount(at), np.bincount(at, weights=labels).astype(np.int64))
    return sample


def test_the_mean_of_the_rows_themselves_scatters_less_than_coins():
    rng = np.random.default_rng(0)
    user = rng.integers(0, 400, 8000)
    chance = rng.random(400)
    labels = rng.random(8000) < chance[user]
    means = np.bincount(user, weights=labels) / np.bincount(user)
    ratio, error = scatter_over_coin_flips(distinct_sample(means[user], labels))
    assert ratio < 0.01
    assert error < 0.3
    # The true chance, of which no feature can know more, is as coins are.
    ratio, error = scatter_over_coin_flips(distinct_sample(chance[user], labels))
    assert abs(ratio - 1) < 4 * error
    assert scatter_over_coin_flips(distinct_sample(user % 5, labels)) is None
