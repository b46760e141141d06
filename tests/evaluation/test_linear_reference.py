"""The linear fits that towers are measured by: the reference and a backtest's regression."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest

from dualdnn.evaluation.backtest_regression import logits_by_strength
from dualdnn.evaluation.linear_reference import linear_logits
from tests.tiny_run import open_tiny


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    """Examples that count 0, 1 or 3 times, and the same ones as often as they count."""
    examples = open_tiny(tmp_path_factory.mktemp("tiny"))
    # With this seed validation rows that all count alike would choose another strength.
    counts = np.random.default_rng(2).choice([0, 1, 3], len(examples.labels))
    split = examples.split
    return replace(examples, weights=counts.astype(np.float32)), replace(examples, split=replace(
        split, train=np.repeat(split.train, counts[split.train]),
        valid=np.repeat(split.valid, counts[split.valid])))


def test_the_reference_takes_a_row_of_weight_3_for_three_and_one_of_weight_0_for_none(weighted):
    (logits, strength), (repeated, its_strength) = map(linear_logits, weighted)
    assert strength == its_strength
    np.testing.assert_allclose(logits, repeated, atol=1e-6)


def test_so_does_the_regression_of_a_backtest_at_every_strength(weighted):
    logits, repeated = map(logits_by_strength, weighted)
    np.testing.assert_allclose(logits, repeated, atol=1e-6)
