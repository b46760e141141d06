import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.models.student import Student

STEP = tf.constant(0, tf.int64)
SHARED = np.random.default_rng(1).normal(size=(6, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("hidden_units", [[5], []])
def test_the_fm_vector_stands_beside_the_fields_in_the_input(hidden_units):
    network = Student(hidden_units=hidden_units, fm=True, seed=1, name="light")
    logits = network(SHARED, None, STEP).logits
    pairs = SHARED[:, 0] * SHARED[:, 1] + SHARED[:, 0] * SHARED[:, 2] + SHARED[:, 1] * SHARED[:, 2]
    x = np.concatenate([SHARED.reshape(6, 12), pairs], axis=1)
    for layer in network.mlp.dense:
        x = np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)
    expected = x @ network.output_layer.kernel.numpy() + network.output_layer.bias.numpy()
    np.testing.assert_allclose(logits, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_without_fm_a_student_reads_the_fields_alone():
    plain, given = (Student(hidden_units=[5], seed=1, name="light", **values)
                    for values in ({}, {"fm": False}))
    np.testing.assert_array_equal(plain(SHARED, None, STEP).logits,
                                  given(SHARED, None, STEP).logits)
    assert plain.mlp.dense[0].kernel.shape == (12, 5)
