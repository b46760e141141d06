import math

import pytest
from scipy import stats

from dualdnn.evaluation.student_t import student_quantile, two_sided_p


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 4.3, 9, 30, 999, 1e5, 1e8])
@pytest.mark.parametrize("t", [1e-6, 0.3, 1.0, 2.0, 4.0, 12.0])
def test_p_values_are_those_of_scipy(t, degrees):
    assert two_sided_p(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-6)
    assert two_sided_p(-t, degrees) == two_sided_p(t, degrees)


@pytest.mark.parametrize("degrees", [1, 2, 3.7, 9, 1000, 1e9])
@pytest.mark.parametrize("probability", [0.01, 0.4, 0.5, 0.9, 0.975, 0.9999])
def test_quantiles_are_those_of_scipy(probability, degrees):
    assert student_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=1e-6)


def test_quantiles_of_a_printed_table():
    for probability, degrees, expected in ((0.975, 1, 12.706), (0.975, 5, 2.571),
                                           (0.995, 10, 3.169), (0.975, 1e9, 1.960)):
        assert student_quantile(probability, degrees) == pytest.approx(expected, abs=5e-4)


def test_the_ends_and_mistakes():
    assert two_sided_p(0.0, 3) == 1
    assert two_sided_p(math.inf, 3) == 0
    with pytest.raises(ValueError, match="degrees must be > 0, got 0"):
        two_sided_p(1.0, 0)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        student_quantile(1, 5)
