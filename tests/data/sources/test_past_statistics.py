import numpy as np
import pytest

from dualdnn.data.sources.past_statistics import feature_lag_mistake, past_statistics
from dualdnn.errors import ConfigError

DAY = 86_400


def statistics(keys, labels, timestamps, feature_lag):
    return past_statistics(keys=np.array(keys, np.int64), labels=np.array(labels, np.int8),
                           timestamps=np.array(timestamps, np.int64), feature_lag=feature_lag)


def slow(keys, labels, timestamps, feature_lag):
    counts, means = [], []
    for key, time in zip(keys, timestamps, strict=True):
        seen = []
        for other_key, label, other_time in zip(keys, labels, timestamps, strict=True):
            earlier = (other_time // DAY < time // DAY) if feature_lag == "1d" \
                else other_time < time
            if other_key == key and earlier:
                seen.append(label)
        counts.append(len(seen))
        means.append(sum(seen) / len(seen) if seen else np.nan)
    return np.array(counts, np.float32), np.array(means, np.float32)


def test_by_hand_yesterday_counts_and_today_does_not():
    #                      day 0      day 0  day 1    day 1, other key   day 2
    keys = [7, 7, 7, 8, 7]
    labels = [1, 0, 1, 1, 0]
    times = [10, 20, DAY + 5, DAY + 6, 2 * DAY]
    counts, means = statistics(keys, labels, times, "1d")
    np.testing.assert_array_equal(counts, [0, 0, 2, 0, 3])
    np.testing.assert_array_equal(means, np.float32([np.nan, np.nan, 1 / 2, np.nan, 2 / 3]))


def test_by_hand_without_lag_equal_timestamps_see_nothing_of_each_other():
    counts, means = statistics([7, 7, 7, 7], [1, 1, 0, 0], [10, 20, 20, 21], "0")
    np.testing.assert_array_equal(counts, [0, 1, 1, 3])
    np.testing.assert_array_equal(means, np.float32([np.nan, 1, 1, 2 / 3]))


def test_the_last_second_of_a_day_is_known_at_midnight():
    counts, _ = statistics([1, 1, 1], [1, 1, 1], [DAY - 1, DAY, DAY + 1], "1d")
    np.testing.assert_array_equal(counts, [0, 1, 1])


@pytest.mark.parametrize("feature_lag", ["1d", "0"])
@pytest.mark.parametrize("seed", range(20))
def test_equals_the_double_loop_on_random_tables_with_many_ties(seed, feature_lag):
    random = np.random.default_rng(seed)
    rows = int(random.integers(1, 60))
    keys = random.integers(0, 4, rows)
    labels = random.integers(0, 2, rows)
    times = random.integers(0, 5, rows) * (DAY // 2) + random.integers(0, 2, rows)
    found = statistics(keys, labels, times, feature_lag)
    for one, expected in zip(found, slow(keys, labels, times, feature_lag), strict=True):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("feature_lag", ["1d", "0"])
def test_the_order_of_the_rows_does_not_matter(feature_lag):
    random = np.random.default_rng(3)
    keys, labels = random.integers(0, 3, 40), random.integers(0, 2, 40)
    times = random.integers(0, 4, 40) * DAY
    shuffle = random.permutation(40)
    straight = statistics(keys, labels, times, feature_lag)
    shuffled = statistics(keys[shuffle], labels[shuffle], times[shuffle], feature_lag)
    for one, other in zip(straight, shuffled, strict=True):
        np.testing.assert_array_equal(one[shuffle], other)


def test_a_label_changes_no_row_of_its_own_day_or_before():
    times = np.arange(6) * (DAY // 2)
    before, after = ([0] * 6, [0, 0, 1, 0, 0, 0])
    _, old = statistics([1] * 6, before, times, "1d")
    _, new = statistics([1] * 6, after, times, "1d")
    np.testing.assert_array_equal(old[:4], new[:4])
    assert (new[4:] > old[4:]).all()


def test_no_rows_give_no_statistics():
    counts, means = statistics([], [], [], "1d")
    assert counts.shape == means.shape == (0,)


@pytest.mark.parametrize("wrong", ["2d", "1h", "", None, 1, False, -1])
def test_another_lag_is_refused(wrong):
    with pytest.raises(ConfigError, match="feature_lag must be one of 1d, 0, got"):
        statistics([1], [1], [1], wrong)


def test_the_number_0_that_yaml_reads_is_the_lag_0():
    assert feature_lag_mistake(0) is None
    np.testing.assert_array_equal(statistics([1, 1], [1, 0], [1, 2], 0)[0], [0, 1])
