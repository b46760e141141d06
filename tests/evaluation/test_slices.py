import numpy as np
import pytest

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import evaluate_scores
from dualdnn.evaluation.slices import Categories, category_masks, evaluate_slices

LABELS = np.array([0, 1, 1, 0, 1, 0])
LOGITS = np.array([-1.0, 2.0, 0.5, 1.0, -0.5, 0.0])


def codes(*values):
    return np.array(values)


def test_a_slice_is_the_metrics_of_its_rows():
    new = np.array([True, True, False, False, True, True])
    groups = np.array([1, 1, 1, 2, 2, 2])
    weights = np.arange(6.0)
    found = evaluate_slices(LABELS, LOGITS, masks={"new_user": new, "known_user": ~new},
                            groups=groups, weights=weights)
    assert list(found) == ["new_user", "known_user"]
    assert found["new_user"] == {"rows": 4} | evaluate_scores(
        LABELS[new], LOGITS[new], groups=groups[new], weights=weights[new]
    )


def test_the_slice_of_all_rows_is_the_whole():
    found = evaluate_slices(LABELS, LOGITS, masks={"all": np.ones(6, dtype=bool)})
    assert found["all"] == {"rows": 6} | evaluate_scores(LABELS, LOGITS)


def test_a_mask_of_nothing_stays_with_zero_rows():
    assert evaluate_slices(LABELS, LOGITS, masks={"new_item": np.zeros(6, dtype=bool)}) == {
        "new_item": {"rows": 0}
    }


def test_no_slices_asked_for():
    assert evaluate_slices(LABELS, LOGITS) == {}


def test_values_by_rows_then_other_then_missing():
    job = Categories(codes=codes(2, 2, 2, 0, 0, 1, 3, -1), values=["a", "b", "c", "d"])
    masks = category_masks("job", job, max_values=2)
    assert {name: mask.nonzero()[0].tolist() for name, mask in masks.items()} == {
        "job=c": [0, 1, 2],
        "job=a": [3, 4],
        "job=(other)": [5, 6],
        "job=(missing)": [7],
    }
    assert list(masks) == ["job=c", "job=a", "job=(other)", "job=(missing)"]


def test_a_value_called_other_is_not_the_rest():
    job = Categories(codes=codes(0, 0, 1), values=["other", "artist"])
    masks = category_masks("job", job, max_values=1)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "job=other": 2, "job=(other)": 1
    }


def test_slices_of_a_single_valued_field_share_out_all_rows():
    rng = np.random.default_rng(0)
    one = Categories(codes=rng.integers(-1, 30, 500), values=[str(i) for i in range(30)])
    masks = category_masks("f", one, max_values=5)
    assert (np.sum(list(masks.values()), axis=0) == 1).all()


def test_a_row_counts_for_each_of_its_values_once():
    genres = Categories(
        codes=np.array([[0, 1, -1], [1, 1, 1], [2, -1, -1], [-1, -1, -1]]),
        values=["drama", "comedy", "war"],
    )
    masks = category_masks("genres", genres, max_values=2)
    assert {name: mask.nonzero()[0].tolist() for name, mask in masks.items()} == {
        "genres=comedy": [0, 1],
        "genres=drama": [0],
        "genres=(other)": [2],
        "genres=(missing)": [3],
    }


def test_ties_go_to_the_lower_code_and_unused_values_have_no_slice():
    one = Categories(codes=codes(3, 1, 1, 3), values=["a", "b", "c", "d"])
    assert list(category_masks("f", one, max_values=9)) == ["f=b", "f=d"]


def test_fields_follow_the_masks():
    found = evaluate_slices(
        LABELS, LOGITS, masks={"new_user": LABELS == 1},
        categories={"job": Categories(codes=codes(0, 0, 0, 1, 1, 1), values=["x", "y"])},
    )
    assert [(name, one["rows"]) for name, one in found.items()] == [
        ("new_user", 3), ("job=x", 3), ("job=y", 3)
    ]
    assert found["job=x"]["auc"] == 1.0
    assert "auc" not in found["new_user"]


@pytest.mark.parametrize(
    ("masks", "categories", "message"),
    [
        ({"new": np.ones(5, dtype=bool)}, {}, r"slice `new` must be booleans of shape \(6,\)"),
        ({"new": np.ones(6)}, {}, "slice `new` must be booleans .* got float64"),
        ({}, {"job": Categories(codes=codes(0), values=["a"])}, "`job` must have 6 rows .* got 1"),
        ({}, {"job": Categories(codes=codes(0, 0, 0, 0, 0, 7), values=["a"])},
         "`job`: code 7 has no value; expected codes below 1"),
        ({}, {"job": Categories(codes=codes(0, 0, 0, 0, 0, 1), values=["a", "a"])},
         "`job`: value 'a' has several codes"),
        ({"job=a": np.ones(6, dtype=bool)},
         {"job": Categories(codes=codes(0, 0, 0, 0, 0, 0), values=["a"])},
         "slice `job=a` is given twice"),
    ],
)
def test_wrong_slices_are_named(masks, categories, message):
    with pytest.raises(DataError, match=message):
        evaluate_slices(LABELS, LOGITS, masks=masks, categories=categories)


def test_zero_values_are_refused():
    with pytest.raises(DataError, match="max_values must be >= 1, got 0"):
        category_masks("job", Categories(codes=codes(0), values=["a"]), max_values=0)
