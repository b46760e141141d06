"""A value's identity: the 64-bit sign of (field, canonical bytes of the value)."""

from __future__ import annotations

import tensorflow as tf

# Missing is no value, so it has no sign of its own; 0 stands for it in every array of signs.
MISSING = 0


def signs_of(field_name: str, values: tf.Tensor) -> tf.Tensor:
    """FarmHash64 fingerprints of the values of one field.

    The same function runs while a day is encoded and inside the exported graph, so training and
    serving cannot disagree.

    Args:
        field_name: the field that the values belong to.
        values: strings of any shape; integers in decimal. The empty string means missing.

    Returns:
        int64 tensor of the same shape; `MISSING` where the value is missing.
    """
    # A field name holds no control character, so (field, value) and the joined text are one to one.
    text = tf.reshape(tf.strings.join([field_name + "\x1f", values]), [-1])
    signs = tf.bitcast(tf.fingerprint(text, method="farmhash64"), tf.int64)
    signs = tf.where(signs == MISSING, tf.constant(1, tf.int64), signs)
    signs = tf.reshape(signs, tf.shape(values))
    return tf.where(values == "", tf.constant(MISSING, tf.int64), signs)
