"""The parts of a backtest that a person can check by hand: schedules, results, differences."""

import datetime
import itertools
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from dualdnn.data.window import Rolling
from dualdnn.errors import DataError
from dualdnn.evaluation.backtest_picture import backtest_picture, trailing_mean
from dualdnn.evaluation.backtest_regression import STRENGTHS, chosen_strength
from dualdnn.evaluation.backtest_results import (
    DayResult,
    day_path,
    day_rows,
    differences,
    pooled,
    read_day,
    strategy_section,
)
from dualdnn.training.strategies import STRATEGIES, days_read, goes_on, schedule

START, END = datetime.date(2024, 3, 1), datetime.date(2024, 3, 20)
DAY = datetime.timedelta(days=1)
WINDOWS = [Rolling(days=days, holdout_days=holdout, holdout_gap=gap, label_delay=delay)
           for days, holdout, gap, delay in itertools.product((1, 5), (0, 1, 2), (0, 1), (0, 1, 3))]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def of(strategy, window=None, end=END):
    return schedule(strategy, START, end, window or Rolling(days=5), 0.1)


# --- schedules ---


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_learns_a_day_whose_labels_are_not_known_yet(strategy):
    for window in WINDOWS:
        learned = set()
        for one in of(strategy, window):
            learned.update(day for training in one.trainings for day in training.days)
            assert max(learned) < one.day - DAY * window.label_delay, (window, one)
            assert one.known == one.day - DAY * (1 + window.label_delay)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_row_is_learned_twice_by_one_model_and_none_is_left_out(strategy):
    for window in WINDOWS:
        learned = []
        for one in of(strategy, window):
            for training in one.trainings:
                learned = [] if training.from_scratch else learned
                learned += training.days
            assert learned == [learned[0] + DAY * i for i in range(len(learned))]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_scores_the_same_days_and_begins_from_scratch(strategy):
    scored = of(strategy)
    assert [one.day for one in scored] == [START + DAY * i for i in range(20)]
    assert scored[0].trainings[0].from_scratch
    assert len(scored[0].trainings[0].days) == 5


def test_strategies_differ_in_when_they_train():
    def drawn(strategy):
        return " ".join("".join("S" if training.from_scratch else "t"
                                for training in one.trainings) or "." for one in of(strategy)[:9])

    assert {strategy: drawn(strategy) for strategy in STRATEGIES} == {
        "retrain_then_finetune": "St St St St St St St St St",
        "retrain_daily": "S S S S S S S S S",
        "finetune_daily": "S t t t t t t S t",
        "finetune_only": "S t t t t t t t t",
        "frozen": "S . . . . . . . .",
        "logistic_regression": "S S S S S S S S S",
    }


def test_the_published_cycle_trains_on_the_days_that_retrain_of_the_day_before_would():
    calendar = [START - DAY * 40 + DAY * i for i in range(80)]
    for window in WINDOWS:
        for one in of("retrain_then_finetune", window):
            as_of = replace(window, as_of=str(one.known))
            chosen = np.array(as_of.choose_days(calendar, calendar[-1]), "datetime64[D]")
            train = chosen[as_of.split(chosen, np.zeros(len(chosen)), None).train].tolist()
            assert list(one.trainings[0].days) == train
            newest = [day for training in one.trainings[1:] for day in training.days]
            assert len(newest) == (window.holdout_days + window.holdout_gap
                                   if window.holdout_days else 0)
            assert all(training.held_back == 0.1 for training in one.trainings[1:])


def test_a_backtest_reads_the_window_before_its_first_day_and_no_day_after_its_last():
    assert days_read(of("retrain_daily")) == {START - DAY * 5 + DAY * i for i in range(25)}
    assert len(days_read(of("frozen"))) == 25


def test_a_state_is_needed_where_the_next_day_does_not_begin_from_scratch():
    def needed(strategy):
        scored = of(strategy)
        return [number for number in range(20) if goes_on(scored, number)]

    assert needed("retrain_daily") == needed("retrain_then_finetune") == []
    assert needed("finetune_only") == needed("frozen") == list(range(19))
    assert needed("finetune_daily") == [n for n in range(19) if n % 7 != 6]


# --- the regression's strength ---


def result(rng, rows=200, shift=0.0, **values):
    truth = rng.normal(size=rows)
    return DayResult(labels=(rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.float32),
                     student=(truth + shift).astype(np.float32),
                     groups=rng.integers(0, 30, rows), **values)


def test_the_strength_is_that_of_the_lowest_loss_on_earlier_days(rng):
    assert STRENGTHS[chosen_strength([])] == 4.0
    day = result(rng, rows=20_000)
    # The third of them says the truth, the others too much or too little.
    candidates = np.outer([2.0, 1.5, 1.0, 0.5, 0.2], day.student)
    assert chosen_strength([replace(day, candidates=candidates)]) == 2
    other = replace(day, candidates=candidates[[2, 4, 0, 3, 1]])
    assert chosen_strength([other, other, replace(day, candidates=candidates)]) == 0


def test_the_strength_is_that_of_the_weighted_loss(rng):
    days = [result(rng, rows=2_000) for _ in range(2)]
    # On the first day the third is best, on the second the last.
    days = [replace(days[0], candidates=np.outer([2.0, 1.5, 1.0, 0.5, 0.2], days[0].student)),
            replace(days[1], candidates=np.outer([-2.0, -1.5, -1.0, 0.5, 1.0], days[1].student))]
    for weights, best in (((1.0, 0.0), 2), ((0.0, 1.0), 4)):
        weighed = [replace(day, weights=np.full(2_000, weight))
                   for day, weight in zip(days, weights, strict=True)]
        assert chosen_strength(weighed) == best


# --- results ---


def test_a_result_comes_back_as_it_was_written(rng, tmp_path):
    for one in (result(rng, seconds=1.5, wall_seconds=2.5), result(rng, weights=rng.random(200)),
                DayResult(labels=np.ones(3), student=np.zeros(3), strength=2.0,
                          candidates=np.zeros((5, 3)))):
        path = day_path(tmp_path, "frozen", START)
        one.save(path)
        back = read_day(path)
        assert [path.name for path in path.parent.iterdir()] == ["2024-03-01.npz"]
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(back, name), value)
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"not a readable result .* Delete .*frozen, and the same"):
        read_day(path)


def test_metrics_are_over_the_rows_of_all_days(rng):
    days = {START + DAY: result(rng, seconds=2.0), START: result(rng, seconds=1.0)}
    section = strategy_section(days)
    assert (section["days"], section["rows"], section["seconds"]) == (2, 400, 3.0)
    assert "teacher" not in section
    first, second = days[START], days[START + DAY]
    rows = pooled(days)
    np.testing.assert_array_equal(rows.student, np.concatenate([first.student, second.student]))
    assert section["log_loss"] == pytest.approx(
        np.logaddexp(0, (1 - 2 * rows.labels.astype(float)) * rows.student).mean())
    with_teacher = {day: replace(one, teacher=one.student) for day, one in days.items()}
    section = strategy_section(with_teacher)
    assert section["teacher"]["auc"] == section["auc"]


def test_a_difference_has_an_interval_that_shrinks_to_nothing_for_equal_models(rng):
    days = {START + DAY * i: result(rng) for i in range(6)}
    worse = {day: replace(one, student=one.student + 1) for day, one in days.items()}
    found = differences({"good": pooled(days), "same": pooled(days), "biased": pooled(worse)},
                        ["good", "absent"], seed=1)
    assert found["good"] == {}
    assert found["same"]["good"]["log_loss"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    biased = found["biased"]["good"]
    assert biased["auc"]["difference"] == pytest.approx(0, abs=1e-6)
    assert 0 < biased["log_loss"]["low"] < biased["log_loss"]["difference"]


def test_rows_of_weight_0_are_in_no_metric_and_no_difference(rng):
    days = {START + DAY * i: result(rng, weights=rng.integers(0, 3, 200)) for i in range(4)}
    other = {day: replace(one, student=one.student + rng.normal(size=200))
             for day, one in days.items()}

    def without(results):
        return {day: replace(one, **{name: getattr(one, name)[one.weights > 0]
                                     for name in ("labels", "student", "groups", "weights")})
                for day, one in results.items()}

    kept, kept_other = without(days), without(other)
    section = strategy_section(days)
    assert {**section, "rows": 0} == pytest.approx(
        {**strategy_section(kept), "rows": 0, "grouped_rows": section["grouped_rows"],
         "grouped_auc": section["grouped_auc"]})
    for row, fewer in zip(day_rows("frozen", days), day_rows("frozen", kept), strict=True):
        for metric in ("auc", "log_loss", "calibration"):
            assert row[metric] == pytest.approx(fewer[metric])
    found = differences({"one": pooled(days), "other": pooled(other)}, ["one"], seed=1)
    fewer = differences({"one": pooled(kept), "other": pooled(kept_other)}, ["one"], seed=1)
    for metric, numbers in found["other"]["one"].items():
        assert numbers == pytest.approx(fewer["other"]["one"][metric])
        assert numbers["low"] < numbers["high"]


def test_strategies_of_different_rows_are_not_compared(rng):
    days = {START + DAY * i: result(rng) for i in range(2)}
    other = {day: replace(one, labels=1 - one.labels) for day, one in days.items()}
    with pytest.raises(DataError, match="scored on different rows"):
        differences({"one": pooled(days), "other": pooled(other)}, ["one"], seed=1)


@pytest.mark.parametrize("name", ["weights", "groups", "teacher"])
def test_days_of_which_less_is_known_are_not_pooled_with_others(rng, name):
    days = {START + DAY * i: result(rng, weights=rng.random(200), teacher=rng.normal(size=200))
            for i in range(2)}
    days[START] = replace(days[START], **{name: None})
    with pytest.raises(DataError, match=(
            f"some days of a strategy have {name} and others have none: .* Delete its folder in "
            "the run, and the same command plays it again")):
        strategy_section(days)


def test_one_day_has_a_difference_but_no_interval(rng):
    days = {START: result(rng)}
    found = differences({"one": pooled(days), "other": pooled(days)}, ["one"], seed=1)
    assert found["other"]["one"]["auc"] == {"difference": 0.0}


# --- the picture ---


def test_the_trailing_mean_looks_back_only_and_skips_what_is_missing():
    assert trailing_mean([1.0, None, 5.0, None, None], 2) == [1.0, 1.0, 5.0, 5.0, None]


def test_the_picture_is_an_svg_with_a_line_a_strategy(rng):
    rows = [row for name, shift in (("frozen", 0.1), ("retrain_daily", 0.0))
            for row in day_rows(name, {START + DAY * i: result(rng, shift=shift, seconds=1.0)
                                       for i in range(9)})]
    root = ElementTree.fromstring(backtest_picture(rows, "retrain_daily"))
    words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "frozen" in words
    assert "AUC less that of retrain_daily, mean of 7 days" in words
    lines = [one for one in root.iter("{http://www.w3.org/2000/svg}path")
             if one.get("stroke-width") == "1.4"]
    assert len(lines) == 1 + 1 + 2 + 2
    # One strategy of one day alone has values instead of differences.
    single = backtest_picture(rows[:1], "frozen")
    assert "<circle" in single
    assert "less that" not in single
