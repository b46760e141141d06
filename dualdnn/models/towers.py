"""What every tower returns."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class TowerOutput(NamedTuple):
    """The outputs of a teacher or student.

    Attributes:
        logits: `(batch_size,)`.
        hidden: the activations of the MLP's hidden layers, each `(batch_size, units)`.
    """

    logits: tf.Tensor
    hidden: list[tf.Tensor]
