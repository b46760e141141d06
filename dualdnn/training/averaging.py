"""Averages of weights over the last tenth of the steps, for scoring; training goes on without.

Polynomial-decay averaging (Shamir and Zhang 2013, arXiv:1212.1824): after step n + 1 the average
moves to the new weights by 9 / (n + 10) of the way. Its memory grows with the steps, so there is
no rate to tune. It takes the noise of the last batches out of what is evaluated and exported.
A model that is fine-tuned for months would fall behind: from the horizon on, n no longer grows.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

# As a horizon: more steps than anything will ever take.
ENDLESS = 2**62
_POWER = 9


def share_kept(since: tf.Tensor, now: tf.Tensor, horizon: tf.Tensor) -> tf.Tensor:
    """What is left of (average - value) after the steps from `since` to `now`, value constant.

    The product of (m + 1) / (m + 10), m = min(n, horizon), over since <= n < now, in closed form.

    Args:
        since: int64, any shape.
        now: int64, of a shape that broadcasts.
        horizon: scalar int64.

    Returns:
        float32 in (0, 1].
    """
    before, until = tf.minimum(since, horizon), tf.minimum(now, horizon)
    # One operation for all factors, along an axis of their own: a tower's step has many averages.
    factors = tf.reshape(tf.range(1, _POWER + 1, dtype=tf.int64),
                         [_POWER] + [1] * max(since.shape.rank, now.shape.rank))
    shares = tf.cast(before + factors, tf.float32) / tf.cast(until + factors, tf.float32)
    beyond = tf.cast((now - until) - (since - before), tf.float32)
    rate = tf.math.log1p(-_POWER / tf.cast(horizon + _POWER + 1, tf.float32))
    return tf.reduce_prod(shares, axis=0) * tf.exp(beyond * rate)


class DenseAverage:
    """The averages of some variables that change at every step."""

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        """Start at the present values."""
        self._live = list(variables)
        self.averages = [tf.Variable(v, name=f"{v.name.split(':')[0]}_average") for v in variables]

    def update(self, finished: tf.Tensor, horizon: tf.Tensor) -> None:
        """Take in the present values.

        Args:
            finished: scalar int64, steps before this one.
            horizon: scalar int64.
        """
        kept = share_kept(finished, finished + 1, horizon)
        for average, variable in zip(self.averages, self._live, strict=True):
            average.assign(variable + kept * (average - variable))

    def exchange(self) -> None:
        """Swap averages and variables; a second call restores both to the bit."""
        for average, variable in zip(self.averages, self._live, strict=True):
            value = variable.numpy()
            variable.assign(average)
            average.assign(value)

    def settle(self) -> None:
        """Set the averages to the present values: these no longer change."""
        for average, variable in zip(self.averages, self._live, strict=True):
            average.assign(variable)
