"""A value's identity: the 64-bit sign of (namespace, canonical bytes of the value)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# Missing is no value, so it has no sign of its own; 0 stands for it in every array of signs.
MISSING = 0


def signs_of(namespace: str, values: tf.Tensor) -> tf.Tensor:
    """FarmHash64 fingerprints of the values of one field.

    The same function runs while a day is encoded and inside the exported graph, so training and
    serving cannot disagree.

    Args:
        namespace: name of the field that the values belong to, or of the one it shares rows with.
        values: strings of any shape; integers in decimal. The empty string means missing.

    Returns:
        int64 tensor of the same shape; `MISSING` where the value is missing.
    """
    # A field name holds no control character, so (field, value) and the joined text are one to one.
    text = tf.reshape(tf.strings.join([namespace + "\x1f", values]), [-1])
    signs = tf.bitcast(tf.fingerprint(text, method="farmhash64"), tf.int64)
    signs = tf.where(signs == MISSING, tf.constant(1, tf.int64), signs)
    signs = tf.reshape(signs, tf.shape(values))
    return tf.where(values == "", tf.constant(MISSING, tf.int64), signs)


def signs_of_pairs(name: str, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Signs of a cross: of the pair of its two fields' signs, in decimal.

    Args:
        name: of the cross.
        first: int64 signs of any shape.
        second: int64 signs of the same shape.

    Returns:
        int64 tensor of the same shape; `MISSING` where either is missing.
    """
    pairs = tf.strings.join([tf.strings.as_string(first), tf.strings.as_string(second)], ",")
    missing = (first == MISSING) | (second == MISSING)
    return signs_of(name, tf.where(missing, "", pairs))


def buckets_of(signs: np.ndarray, buckets: int) -> np.ndarray:
    """Signs modulo `buckets`, as unsigned numbers: int32, of the same shape."""
    return (signs.view(np.uint64) % np.uint64(buckets)).astype(np.int32)


def buckets_in_graph(signs: tf.Tensor, buckets: int) -> tf.Tensor:
    """`buckets_of` in a graph, with signed arithmetic: a negative sign stands for itself + 2^64."""
    wrapped = tf.where(signs < 0, tf.constant(2**64 % buckets, tf.int64),
                       tf.constant(0, tf.int64))
    size = tf.constant(buckets, tf.int64)
    return tf.cast((tf.math.floormod(signs, size) + wrapped) % size, tf.int32)
