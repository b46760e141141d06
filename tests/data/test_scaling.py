import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualdnn.data.scaling import (
    CLIP,
    log_boundaries,
    normalisation,
    normalised,
    quantile_boundaries,
    symmetric_log,
    without_subnormals,
)


def floats(*values):
    return np.array(values, np.float32)


def test_symmetric_log_is_odd_and_zero_at_zero():
    np.testing.assert_allclose(symmetric_log(floats(0, np.e - 1, 1 - np.e, 999)),
                               [0, 1, -1, np.log(1000)], rtol=1e-6)


def test_log_boundaries_of_two_decades():
    found = log_boundaries(floats(0, 0, 5, 999, np.nan), 3)
    np.testing.assert_allclose(found, [9, 99], rtol=1e-5)


@pytest.mark.parametrize("values", [(), (np.nan,), (3, 3, 3)])
def test_numbers_of_one_value_or_none_have_no_boundary(values):
    assert len(log_boundaries(floats(*values), 5)) == 0
    assert len(quantile_boundaries(floats(*values), 5)) == 0


@given(st.lists(st.floats(-2.0**120, 2.0**120, width=32, allow_subnormal=False), min_size=2),
       st.integers(2, 30))
def test_boundaries_ascend_between_the_smallest_and_the_largest_value(values, buckets):
    for cut in (log_boundaries, quantile_boundaries):
        found = cut(floats(*values), buckets)
        assert found.dtype == np.float32
        assert len(found) < buckets
        assert (np.diff(found) > 0).all()
        if len(found):
            assert min(values) < found[0]
            assert found[-1] <= max(values)


@pytest.mark.parametrize("scale", ["quantile", "log"])
def test_normalised_numbers_have_mean_zero_and_deviation_one(scale):
    values = np.random.default_rng(0).normal(50, 7, 1000).astype(np.float32)
    found = normalised(values, scale, *normalisation(values, scale), missing=1.0)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-5)


def test_missing_and_far_numbers():
    found = normalised(floats(np.nan, 3e38, -3e38, 0), "quantile", 0.0, 1.0, missing=1.0)
    assert found.tolist() == [1, CLIP, -CLIP, 0]
    assert normalisation(floats(np.nan), "log") == (0, 1)
    assert normalisation(floats(4, 4), "quantile") == (4, 1)


def test_subnormal_numbers_are_zero():
    tiny = np.finfo(np.float32).tiny
    found = without_subnormals(floats(1e-45, -1e-40, tiny, -1, np.nan))
    np.testing.assert_array_equal(found, floats(0, 0, tiny, -1, np.nan))
