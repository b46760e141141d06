"""The logistic regression of a backtest: as strong a linear rival as its past allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.evaluation.backtest_results import DayResult
from dualdnn.evaluation.linear_reference import fitted_weights, one_hot
from dualdnn.schema import Schema

STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
_FIRST_STRENGTH = 4.0


def regression_mistakes(schema: Schema) -> list[str]:
    """Why a schema has no one-hot form, one sentence each."""
    if len(schema.tables()) == 1 and not schema.dense_width:
        return []
    return ["strategies lists logistic_regression, which reads one table of rows; fields with a "
            "size of their own, vectors and direct numbers have no one-hot form. Leave it out of "
            "strategies."]


def logits_by_strength(examples: Examples) -> np.ndarray:
    """Test logits (strengths, rows_test) float64 of a regression on the training part.

    The strongest prior is fitted first and starts the next one, so that a day depends on nothing
    but its own rows.
    """
    split = examples.split
    train, test = one_hot(examples, split.train), one_hot(examples, split.test)
    labels = examples.labels[split.train].astype(np.float64)
    counts = examples.loss_weights(split.train)
    weights = np.zeros(train.shape[1] + 1)
    found = np.zeros((len(STRENGTHS), len(split.test)))
    for number in reversed(range(len(STRENGTHS))):
        weights = fitted_weights(train, labels, STRENGTHS[number], weights, counts)
        found[number] = test @ weights[:-1] + weights[-1]
    return found


def chosen_strength(earlier: Sequence[DayResult]) -> int:
    """Position in `STRENGTHS` with the lowest log loss on days that were scored before.

    Args:
        earlier: results of days whose labels are known by now; without any, 4 is taken.
    """
    if not earlier:
        return STRENGTHS.index(_FIRST_STRENGTH)
    losses = np.zeros(len(STRENGTHS))
    for one in earlier:
        assert one.candidates is not None
        of_rows = np.logaddexp(0.0, (1.0 - 2.0 * one.labels) * one.candidates)
        losses += (of_rows if one.weights is None else one.weights * of_rows).sum(axis=1)
    return int(np.argmin(losses))
