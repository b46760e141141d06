import itertools

import numpy as np
import pytest

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import sigmoid
from dualdnn.evaluation.ranking_agreement import ranking_agreement


def slow_dcg(scores, gains, top):
    """The mean over every order that the scores allow."""
    values = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            values.append(sum(gains[row] / np.log2(2 + place)
                              for place, row in enumerate(order[:top])))
    return np.mean(values)


def slow_shares(scores, top):
    """The share of orders, of those that the scores allow, in which each row is on top."""
    orders = [order for order in itertools.permutations(range(len(scores)))
              if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))]
    return [np.mean([row in order[:top] for order in orders]) for row in range(len(scores))]


@pytest.mark.parametrize("decimals", [3, 0], ids=["untied", "tied"])
@pytest.mark.parametrize("top", [1, 2, 3])
def test_equals_every_order_counted_out(decimals, top):
    rng = np.random.default_rng(top)
    groups = rng.permutation(np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 4]))
    teacher = np.round(rng.normal(size=25), decimals)
    student = np.round(teacher + 0.7 * rng.normal(size=25), decimals)
    overlaps, ratios, chances = [], [], []
    for group in range(7):
        t, s = teacher[groups == group], student[groups == group]
        if len(t) > top:
            overlaps.append(sum(map(min, slow_shares(t, top), slow_shares(s, top))) / top)
            chances.append(top / len(t))
        if len(t) > 1:
            ratios.append(slow_dcg(s, sigmoid(t), top) / slow_dcg(t, sigmoid(t), top))
    found = ranking_agreement(teacher, student, groups, top=top)
    assert found == pytest.approx({
        "top_overlap": np.mean(overlaps), "top_overlap_by_chance": np.mean(chances),
        "top_groups": len(overlaps), "ndcg": np.mean(ratios), "ndcg_groups": 6})


def test_by_hand():
    # One request of 12 rows; the student swaps the 10th and the 11th.
    teacher = np.arange(12.0)[::-1]
    student = teacher.copy()
    student[[9, 10]] = student[[10, 9]]
    found = ranking_agreement(teacher, student, np.zeros(12))
    assert found["top_overlap"] == pytest.approx(0.9)
    assert found["top_overlap_by_chance"] == pytest.approx(10 / 12)
    gains = sigmoid(teacher)
    lost = (gains[9] - gains[10]) / np.log2(11)
    assert found["ndcg"] == pytest.approx(1 - lost / (gains[:10] / np.log2(
        2 + np.arange(10))).sum())


def test_the_same_order_agrees_fully_whatever_its_scale_and_ties():
    rng = np.random.default_rng(0)
    teacher, groups = np.round(rng.normal(size=300), 1), rng.integers(0, 9, 300)
    found = ranking_agreement(teacher, 3 * teacher - 5, groups)
    assert (found["top_overlap"], found["ndcg"]) == pytest.approx((1, 1))


def test_a_constant_student_overlaps_by_chance():
    rng = np.random.default_rng(1)
    teacher, groups = rng.normal(size=600), rng.integers(0, 20, 600)
    found = ranking_agreement(teacher, np.zeros(600), groups)
    assert found["top_overlap"] == pytest.approx(found["top_overlap_by_chance"])
    assert found["ndcg"] < 0.95


def test_a_random_student_overlaps_by_chance_on_average():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(400), 25)
    found = ranking_agreement(rng.normal(size=10_000), rng.normal(size=10_000), groups)
    assert found["top_overlap"] == pytest.approx(0.4, abs=0.02)


def test_small_groups_are_left_out():
    alone = ranking_agreement([1.0, 2.0], [2.0, 1.0], ["a", "b"])
    assert alone == {}
    pair = ranking_agreement([1.0, 2.0], [2.0, 1.0], ["a", "a"])
    assert set(pair) == {"ndcg", "ndcg_groups"}
    assert ranking_agreement([], [], []) == {}
    # Ten rows all fit on the page; a lone row changes nothing.
    ten = ranking_agreement(np.arange(11.0), -np.arange(11.0), [0] * 10 + [1])
    assert set(ten) == {"ndcg", "ndcg_groups"}
    assert ten["ndcg_groups"] == 1


def test_mistakes_are_named():
    with pytest.raises(DataError, match=r"groups must have .* got \(1,\) and \(2,\)"):
        ranking_agreement([1.0, 2.0], [1.0, 2.0], [0])
    with pytest.raises(DataError, match="logits must be finite"):
        ranking_agreement([1.0, np.nan], [1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="top must be >= 1, got 0"):
        ranking_agreement([1.0], [1.0], [0], top=0)
