import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.fm import FactorizationMachine, FMVector, bi_interaction

LAYERS = [FactorizationMachine, FMVector]


def pairs_of(x):
    """The sum over all pairs of fields of their elementwise products, pair by pair."""
    expected = np.zeros((x.shape[0], x.shape[2]))
    for row, vectors in enumerate(x.astype(np.float64)):
        for first, second in itertools.combinations(vectors, 2):
            expected[row] += first * second
    return expected


def drawn(fields=5, dim=3):
    return np.random.default_rng(0).normal(size=(7, fields, dim)).astype(np.float32)


def test_the_vector_equals_a_loop_over_pairs():
    x = drawn()
    np.testing.assert_allclose(bi_interaction(x), pairs_of(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(FMVector(seed=1, name="fm")(x), bi_interaction(x))


def test_the_machine_equals_the_inner_products_of_all_pairs():
    x = drawn()
    expected = [[sum(float(a @ b) for a, b in itertools.combinations(vectors, 2))]
                for vectors in x.astype(np.float64)]
    np.testing.assert_allclose(FactorizationMachine(seed=1, name="fm")(x), expected,
                               rtol=1e-4, atol=1e-5)


def test_two_fields_by_hand():
    x = tf.constant([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_array_equal(bi_interaction(x), [[3.0, 8.0]])
    np.testing.assert_array_equal(FactorizationMachine(seed=1, name="fm")(x), [[11.0]])


@pytest.mark.parametrize("cls", LAYERS)
def test_one_field_has_no_pair(cls):
    np.testing.assert_allclose(cls(seed=1, name="fm")(drawn(fields=1)), 0, atol=1e-6)


@pytest.mark.parametrize("cls", LAYERS)
def test_shape_and_config(cls):
    layer = cls(seed=1, name="fm")
    output = layer(drawn())
    assert tuple(layer.compute_output_shape(tf.TensorShape((7, 5, 3)))) == output.shape
    again = cls.from_config(layer.get_config())
    np.testing.assert_array_equal(again(drawn()), output)
    assert layer.trainable_variables == []
