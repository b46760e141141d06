import datetime

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dualdnn.data.window import ChosenDays, Given, RandomFraction, Rolling, TimeFraction
from dualdnn.errors import DataError

AUGUST_1 = datetime.date(2013, 8, 1)
ONE = datetime.timedelta(days=1)
YEAR = [datetime.date(2013, 1, 1) + ONE * i for i in range(365)]


def parts(window, newest=AUGUST_1, available=YEAR):
    """The days of train, valid and test, with one row a day."""
    chosen = window.choose_days(available, newest)
    days = np.array(chosen, "datetime64[D]")
    split = window.split(days, np.zeros(len(days), np.int64), None)
    return tuple([day.item() for day in days[rows]]
                 for rows in (split.train, split.valid, split.test))


def days_of(first, last):
    """Days of 2013 from month-day to month-day, both included."""
    first, last = (datetime.date.fromisoformat(f"2013-{day}") for day in (first, last))
    return [first + ONE * i for i in range((last - first).days + 1)]


# Rolling.

def test_the_example_of_the_contract():
    train, valid, test = parts(Rolling(as_of="2013-08-01"))
    assert train == days_of("07-02", "07-31")
    assert valid == []
    assert test == days_of("08-01", "08-01")


def test_as_of_is_the_newest_complete_day_by_default():
    assert parts(Rolling()) == parts(Rolling(as_of="2013-08-01"))


def test_windows_of_consecutive_days_share_29_days():
    today, tomorrow = (set(parts(Rolling(as_of=day))[0]) for day in ("2013-07-31", "2013-08-01"))
    assert len(today & tomorrow) == 29


def test_the_gap_lies_between_training_and_holdout_and_is_not_opened():
    window = Rolling(days=3, holdout_days=2, holdout_gap=4)
    assert parts(window) == (days_of("07-24", "07-26"), [], days_of("07-31", "08-01"))
    assert len(window.choose_days(YEAR, AUGUST_1)) == 5


def test_the_last_valid_days_of_training_validate():
    assert parts(Rolling(days=5, valid_days=2)) == (
        days_of("07-27", "07-29"), days_of("07-30", "07-31"), days_of("08-01", "08-01"))


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("as_of", [None, "2013-08-01"])
def test_without_a_holdout_training_ends_at_as_of(as_of, gap):
    assert parts(Rolling(as_of=as_of, days=4, holdout_days=0, holdout_gap=gap)) == (
        days_of("07-29", "08-01"), [], [])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 364), st.integers(1, 40), st.integers(0, 5), st.integers(0, 5),
       st.integers(0, 5), st.booleans())
def test_training_never_sees_a_holdout_day(position, days, holdout, gap, valid, is_named):
    assume(valid < days)
    assume(position - days - holdout - gap >= 0)
    as_of = YEAR[position]
    window = Rolling(as_of=str(as_of) if is_named else None, days=days, holdout_days=holdout,
                     holdout_gap=gap, valid_days=valid)
    assert window.mistakes() == []
    train, validation, test = parts(window, newest=as_of)
    assert (len(train), len(validation), len(test)) == (days - valid, valid, holdout)
    everything = [*train, *validation, *test]
    assert everything == sorted(set(everything))
    assert everything[-1] == as_of
    if test:
        assert test[0] - [*train, *validation][-1] == ONE * (gap + 1)


def test_rows_belong_to_the_day_of_their_partition():
    window = Rolling(days=1)
    days = np.array(["2013-08-01", "2013-07-31", "2013-08-01", "2013-07-31"], "datetime64[D]")
    late = np.array([0, 2**40, 5, 3])
    split = window.split(days, late, None)
    assert split.train.tolist() == [1, 3]
    assert split.test.tolist() == [0, 2]


def test_a_day_without_a_folder():
    holes = [day for day in YEAR if day not in days_of("07-04", "07-06")]
    with pytest.raises(DataError, match=r"^the window 2013-07-02 to 2013-08-01 needs 31 days, but "
                       r"2013-07-04, 2013-07-05, 2013-07-06 \(3 days\) have no folder in the "
                       r"lake, which holds 2013-01-01 to 2013-12-31\. Choose another "):
        Rolling().choose_days(holes, AUGUST_1)


def test_days_before_the_lake_begins_are_named_in_short():
    with pytest.raises(DataError, match=r"2012-12-27 \.\.\. \(9 days\) have no folder"):
        Rolling(as_of="2013-01-22").choose_days(YEAR, AUGUST_1)


def test_a_hole_in_the_gap_does_not_matter():
    holes = [day for day in YEAR if day not in days_of("07-28", "07-31")]
    assert parts(Rolling(days=2, holdout_gap=4), available=holes)[0] == days_of("07-26", "07-27")


def test_an_incomplete_newest_day():
    newest = datetime.date(2013, 12, 30)
    with pytest.raises(DataError, match=r"^window\.as_of=2013-12-31 is not complete: there is no "
                       r"later partition and its folder holds no _SUCCESS\. The newest complete "
                       r"day is 2013-12-30\.$"):
        Rolling(as_of="2013-12-31").choose_days(YEAR, newest)
    assert Rolling().choose_days(YEAR, newest)[-1] == newest


@pytest.mark.parametrize("window", [
    Rolling(days=10**6), Rolling(days=10**12), Rolling(holdout_gap=10**6),
    Rolling(as_of="0001-01-05")], ids=str)
def test_a_window_that_reaches_back_before_the_calendar(window):
    with pytest.raises(DataError, match=r"^a window of \d+ days with a holdout of 1 that ends at "
                       r"\d{4}-\d\d-\d\d would begin before the year 1\. Choose fewer days\.$"):
        window.choose_days(YEAR, AUGUST_1)


@pytest.mark.parametrize(("values", "message"), [
    ({"as_of": "yesterday"}, "window.as_of must be a day as YYYY-MM-DD, got 'yesterday'."),
    ({"as_of": "2013-02-29"}, "window.as_of must be a day as YYYY-MM-DD, got '2013-02-29'."),
    ({"as_of": "20130801"}, "window.as_of must be a day as YYYY-MM-DD, got '20130801'."),
    ({"as_of": "2013-W31-4"}, "window.as_of must be a day as YYYY-MM-DD, got '2013-W31-4'."),
    ({"as_of": ""}, "window.as_of must be a day as YYYY-MM-DD, got ''."),
    ({"as_of": 20130801}, "window.as_of must be a day as YYYY-MM-DD, got 20130801."),
    ({"days": 0}, "window.days must be >= 1, got 0."),
    ({"holdout_days": -1}, "window.holdout_days must be >= 0 days, got -1."),
    ({"holdout_gap": -1}, "window.holdout_gap must be >= 0 days, got -1."),
    ({"valid_days": -1}, "window.valid_days must be >= 0 days, got -1."),
    ({"days": 5, "valid_days": 5}, "window.valid_days must be smaller than window.days (5), got "
                                   "5: training would have no day left."),
])
def test_a_wrong_rolling_window(values, message):
    assert Rolling(**values).mistakes() == [message]


def test_all_mistakes_of_a_rolling_window_at_once():
    assert len(Rolling(as_of="x", days=0, holdout_days=-1, holdout_gap=-1,
                       valid_days=-1).mistakes()) == 5


# Fractions.

def split_of(window, timestamps):
    timestamps = np.array(timestamps, np.int64)
    split = window.split(np.zeros(len(timestamps), "datetime64[D]"), timestamps, None)
    return [rows.tolist() for rows in (split.train, split.valid, split.test)]


def test_time_fraction_cuts_in_the_order_of_time():
    assert split_of(TimeFraction(train=0.5, valid=0.25, test=0.25),
                    [40, 10, 30, 20]) == [[1, 3], [2], [0]]


def test_rows_of_one_second_keep_their_order_in_the_lake():
    assert split_of(TimeFraction(train=0.6, valid=0.2, test=0.2),
                    [7, 7, 7, 7, 7]) == [[0, 1, 2], [3], [4]]


def test_time_fraction_needs_no_validation():
    assert split_of(TimeFraction(train=0.75, valid=0.0, test=0.25), [1, 2, 3, 4]) == [
        [0, 1, 2], [], [3]]


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 300), st.integers(0, 2**31), st.booleans())
def test_fractions_give_every_row_to_one_part(rows, seed, in_time):
    window = TimeFraction() if in_time else RandomFraction(seed=seed)
    timestamps = np.random.default_rng(seed).integers(0, 50, rows)
    train, valid, test = split_of(window, timestamps)
    assert sorted([*train, *valid, *test]) == list(range(rows))
    for part in (train, valid, test):
        assert part == sorted(part)
    assert abs(len(train) - 0.8 * rows) <= 0.5
    assert abs(len(train) + len(valid) - 0.9 * rows) <= 0.5
    if in_time:
        assert timestamps[train].max() <= timestamps[[*valid, *test]].min()


def test_random_fraction_is_a_function_of_the_seed():
    one, again, other = (split_of(RandomFraction(seed=seed), range(100)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_random_split_is_not_in_time():
    train, _, test = split_of(RandomFraction(seed=0), range(100))
    assert max(train) > min(test)


@pytest.mark.parametrize("window", [TimeFraction(), RandomFraction(seed=1)], ids=["time", "seed"])
def test_too_few_rows_for_the_fractions(window):
    with pytest.raises(DataError, match=r"^the window cuts 3 rows into 2 to train, 1 to validate "
                       r"and 0 to test\. Expected rows to train and to test: use more rows or "):
        split_of(window, [1, 2, 3])


@pytest.mark.parametrize(("values", "message"), [
    ({"train": 0.8, "valid": 0.1, "test": 0.2},
     "window.train + window.valid + window.test must be 1, got 1.1."),
    ({"train": 1.1, "valid": -0.2, "test": 0.1}, "window.train must lie between 0 and 1, got 1.1."),
    ({"train": float("nan")}, "window.train must lie between 0 and 1, got nan."),
    ({"train": 0.0, "valid": 0.5, "test": 0.5},
     "window.train and window.test must be > 0. Only window.valid may be 0."),
    ({"train": 1.0, "valid": 0.0, "test": 0.0},
     "window.train and window.test must be > 0. Only window.valid may be 0."),
])
def test_wrong_fractions(values, message):
    assert TimeFraction(**values).mistakes()[0] == message
    assert RandomFraction(seed=-1, **values).mistakes() == [
        *TimeFraction(**values).mistakes(), "window.seed must be >= 0, got -1."]


def test_fractions_that_add_up_but_for_rounding_are_sound():
    assert TimeFraction(train=0.7, valid=0.2, test=0.1).mistakes() == []


@pytest.mark.parametrize("window", [TimeFraction(), RandomFraction(seed=1), Given(column="part")],
                         ids=["time", "seed", "given"])
def test_other_windows_open_the_whole_lake(window):
    assert window.choose_days(YEAR, AUGUST_1) == YEAR


# Given.

def given_split(values):
    values = np.array(values, object)
    split = Given(column="part").split(np.zeros(len(values), "datetime64[D]"),
                                       np.zeros(len(values), np.int64), values)
    return [rows.tolist() for rows in (split.train, split.valid, split.test)]


def test_the_given_column_says_it():
    assert given_split(["test", "train", "valid", "train", "test"]) == [[1, 3], [2], [0, 4]]
    assert given_split(["train", "test"]) == [[0], [], [1]]


@pytest.mark.parametrize(("values", "shown"), [
    (["train", "dev", "test", "dev"], "'dev' first, in 2 of 4"),
    (["train", None, "test"], "'None' first, in 1 of 3"),
    (["train", "Test", "test"], "'Test' first, in 1 of 3"),
    (["0", "1"], "'0' first, in 2 of 2"),
])
def test_other_values_in_the_given_column(values, shown):
    with pytest.raises(DataError, match=rf"^window\.column `part` must say train, valid or test, "
                       rf"got {shown} rows\. Correct the column"):
        given_split(values)


@pytest.mark.parametrize(("values", "part"), [(["train", "valid"], "test"),
                                              (["test", "valid"], "train")])
def test_a_given_column_without_a_part(values, part):
    with pytest.raises(DataError, match=rf"^window\.column `part` marks none of 2 rows as {part}\. "
                       "Expected rows to train and to test"):
        given_split(values)


def test_given_needs_the_name_of_a_column():
    assert Given(column="").mistakes() == [
        "window.column must name a column of the lake that says train, valid or test."]
    assert Given(column="part").mistakes() == []


def test_only_windows_in_the_order_of_time_may_use_label_statistics():
    assert [window.follows_time for window in (
        Rolling(), TimeFraction(), RandomFraction(seed=1), Given(column="part"))] == [
            True, True, False, False]


@pytest.mark.parametrize(("seconds", "held"), [
    ([1, 1, 2, 2, 3, 3, 4, 4, 5, 5], 2),     # the cut lies between seconds
    ([1, 1, 2, 2, 3, 3, 4, 4, 4, 5], 1),     # moved on to the next one
    ([1, 1, 2, 2, 2, 5, 5, 5, 5, 5], 5),     # there is none: the last one before it
    ([7] * 10, 2),                           # a single second is cut inside
])
def test_the_cut_of_held_back_rows_lies_between_two_seconds(seconds, held):
    days = np.full(10, "2024-08-01", "datetime64[D]")
    window = ChosenDays(train=[datetime.date(2024, 8, 1)], test_share=0.2)
    order = np.random.default_rng(0).permutation(10)
    split = window.split(days, np.array(seconds)[order], None)
    assert len(split.test) == held
    assert len(split.train) == 10 - held
    if len(set(seconds)) > 1:
        # What is learned up to its newest second leaves exactly what was held back.
        until = int(np.array(seconds)[order][split.train].max())
        after = ChosenDays(train=[datetime.date(2024, 8, 1)],
                           after=(datetime.date(2024, 8, 1), until))
        np.testing.assert_array_equal(after.split(days, np.array(seconds)[order], None).train,
                                      split.test)
