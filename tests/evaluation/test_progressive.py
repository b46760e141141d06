"""Rows that were scored before they were learned: kept, joined, by day."""

import datetime

import numpy as np
import pytest

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.progressive import (
    ScoredDays,
    ScoredRows,
    by_day,
    joined,
    read_scored_rows,
    results_by_day,
)

DAY = 86_400


def rows(start, count, groups=True, seed=0, weights=False):
    rng = np.random.default_rng(seed)
    return ScoredRows(
        weights=np.random.default_rng(9).random(count) if weights else None,
        seconds=start + np.arange(count), labels=rng.integers(0, 2, count).astype(np.float32),
        groups=rng.integers(0, 5, count) if groups else None,
        logits={"online": rng.normal(size=count), "offline": rng.normal(size=count)})


@pytest.mark.parametrize("groups", [True, False])
def test_saved_and_read_again(tmp_path, groups):
    given = rows(100, 7, groups)
    given.save(tmp_path / "a.npz")
    found = read_scored_rows(tmp_path / "a.npz")
    assert (found.groups is None, set(found.logits), len(found)) == (
        not groups, {"online", "offline"}, 7)
    np.testing.assert_array_equal(found.logits["online"], given.logits["online"])
    assert found.weights is None
    weighted = rows(100, 7, groups, weights=True)
    weighted.save(tmp_path / "a.npz")
    np.testing.assert_array_equal(read_scored_rows(tmp_path / "a.npz").weights, weighted.weights)
    (tmp_path / "a.npz").write_bytes(b"half")
    with pytest.raises(DataError, match=r"a\.npz is not readable: .* Delete it"):
        read_scored_rows(tmp_path / "a.npz")


def test_days_are_those_of_the_rows_whatever_file_they_came_in():
    first, second = rows(DAY - 3, 6), rows(DAY + 50, 5, seed=1)
    every = joined([first, second])
    found = results_by_day(by_day(every))
    one, two = datetime.date(1970, 1, 1), datetime.date(1970, 1, 2)
    assert {name: list(days) for name, days in found.items()} == {
        "online": [one, two], "offline": [one, two]}
    of_day = found["online"][two]
    np.testing.assert_array_equal(of_day.labels, np.r_[first.labels[3:], second.labels])
    np.testing.assert_array_equal(of_day.groups, np.r_[first.groups[3:], second.groups])
    assert auc(of_day.labels, of_day.student) == auc(every.labels[3:], every.logits["online"][3:])
    assert joined([first, rows(0, 2, groups=False)]).groups is None
    weighted = rows(DAY - 3, 6, weights=True), rows(DAY + 50, 5, weights=True)
    together = joined(weighted)
    np.testing.assert_array_equal(together.weights, np.r_[weighted[0].weights,
                                                          weighted[1].weights])
    np.testing.assert_array_equal(results_by_day(by_day(together))["online"][two].weights,
                                  together.weights[3:])
    assert every.weights is None
    assert joined([first, weighted[1]]).weights is None


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.npz"))


def test_scored_rows_of_a_day_become_one_file_and_old_days_go(tmp_path):
    first, both, late = rows(10, 6), rows(DAY - 3, 6, seed=1), rows(20, 4, seed=2)
    kept = ScoredDays(tmp_path, most=2)
    kept.add("a", first)
    kept.add("b", both)
    loose = (tmp_path / "b.npz").read_bytes()
    one, two, three = (datetime.date(1970, 1, 1 + day) for day in range(3))
    days, left_out = kept.collect()
    assert (list(days), left_out) == ([one, two], set())
    assert files_below(tmp_path) == ["days/1970-01-01.npz", "days/1970-01-02.npz"]
    np.testing.assert_array_equal(days[one].labels, np.r_[first.labels, both.labels[:3]])
    # As where it was killed after the first of the two days.
    (tmp_path / "b.npz").write_bytes(loose)
    (tmp_path / "days" / "1970-01-02.npz").unlink()
    kept = ScoredDays(tmp_path, most=2)
    kept.add("a", late)  # read once more: what was first said about it stays
    for _ in range(2):
        again, _ = kept.collect()
        assert {day: len(part) for day, part in again.items()} == {one: 9, two: 3}
        np.testing.assert_array_equal(again[one].logits["online"], days[one].logits["online"])
    kept.add("c", rows(2 * DAY, 5))
    assert list(kept.collect()[0]) == [one, two, three]
    kept.forget()
    kept.add("d", late)
    assert {day: len(part) for day, part in kept.collect()[0].items()} == {two: 3, three: 5}
    assert files_below(tmp_path) == ["days/1970-01-02.npz", "days/1970-01-03.npz"]
