"""The frontier and the choice, on students whose numbers can be read off."""

import itertools
import random

import pytest

from dualdnn.evaluation.pareto import Candidate, frontier, smallest, within


def student(name, latency, auc, parameters=100):
    return Candidate(name=name, latency=latency, auc=auc, parameters=parameters)


def test_the_frontier_goes_from_the_fastest_to_the_best():
    found = frontier([student("wide", 4, 0.80), student("bad", 3, 0.70),
                      student("small", 1, 0.72), student("middle", 2, 0.75)])
    assert found == ["small", "middle", "wide"]


def test_the_best_alone_is_the_frontier_where_it_is_the_fastest():
    assert frontier([student("slow", 2, 0.7), student("fast", 1, 0.8)]) == ["fast"]


def test_equal_auc_is_beaten_by_the_faster_and_equal_latency_by_the_better():
    assert frontier([student("slow", 2, 0.7), student("fast", 1, 0.7)]) == ["fast"]
    assert frontier([student("worse", 1, 0.6), student("better", 1, 0.7)]) == ["better"]
    # Neither beats the other.
    assert sorted(frontier([student("one", 1, 0.7), student("twin", 1, 0.7)])) == ["one", "twin"]


def test_no_student_has_no_frontier():
    assert frontier([]) == []
    assert smallest([], latency_tolerance=0.1) is None


def test_the_frontier_is_what_nobody_dominates():
    dice = random.Random(1)
    for _ in range(100):
        all_of_them = [student(str(i), dice.randint(1, 6), dice.randint(1, 6)) for i in range(9)]
        beaten = {one.name for one, other in itertools.permutations(all_of_them, 2)
                  if other.latency <= one.latency and other.auc >= one.auc
                  and (other.latency, other.auc) != (one.latency, one.auc)}
        assert set(frontier(all_of_them)) == {one.name for one in all_of_them} - beaten


def test_good_enough_includes_the_limit():
    found = within([student("on", 1, 0.75), student("below", 1, 0.7499)], least_auc=0.75)
    assert [one.name for one in found] == ["on"]


def test_the_fastest_is_the_smallest():
    found = smallest([student("slow", 2.0, 0.8, 10), student("fast", 1.0, 0.7, 99)],
                     latency_tolerance=0.05)
    assert found.name == "fast"


def test_parameters_decide_between_latencies_within_the_noise():
    students = [student("narrow", 1.04, 0.7, 10), student("wide", 1.0, 0.8, 99)]
    assert smallest(students, latency_tolerance=0.05).name == "narrow"
    assert smallest(students, latency_tolerance=0.03).name == "wide"


def test_of_equal_size_the_better_is_chosen():
    students = [student("worse", 1.0, 0.7), student("better", 1.01, 0.8)]
    assert smallest(students, latency_tolerance=0.05).name == "better"


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match=r"latency_tolerance must be >= 0, got -0\.1"):
        smallest([student("one", 1, 0.7)], latency_tolerance=-0.1)
