import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.errors import ConfigError
from dualdnn.layers.cross_vector import VectorCrossNetwork

FIELDS, DIM = 3, 4


def layer_of(*, num_layers=3, seed=5, name="cross"):
    layer = VectorCrossNetwork(num_layers=num_layers, seed=seed, name=name)
    layer.build(tf.TensorShape((None, FIELDS, DIM)))
    return layer


def test_equals_the_papers_formula_element_by_element():
    layer = layer_of()
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=value.shape) for value in layer.get_weights()])
    x = rng.normal(size=(5, FIELDS, DIM)).astype(np.float32)
    kernels, biases = layer.get_weights()[:3], layer.get_weights()[3:]
    size = FIELDS * DIM
    for given, found in zip(x.reshape(5, size).astype(np.float64), layer(x).numpy(), strict=True):
        crossed = list(given)
        for kernel, bias in zip(kernels, biases, strict=True):
            product = sum(crossed[i] * kernel[i, 0] for i in range(size))
            crossed = [given[i] * product + bias[i] + crossed[i] for i in range(size)]
        np.testing.assert_allclose(found, crossed, rtol=1e-4, atol=1e-4)
    assert tuple(layer.compute_output_shape(tf.TensorShape((5, FIELDS, DIM)))) == (5, size)


def test_by_hand():
    layer = VectorCrossNetwork(num_layers=1, seed=1, name="cross")
    layer.build(tf.TensorShape((None, 1, 2)))
    layer.set_weights([np.array([[2.0], [1.0]]), np.array([10.0, 20.0])])
    # x . w = 3 * 2 + 4 * 1 = 10; 3 * 10 + 10 + 3 and 4 * 10 + 20 + 4
    np.testing.assert_allclose(layer(tf.constant([[[3.0, 4.0]]])), [[43.0, 64.0]])


def test_one_vector_a_layer_starts_from_seed_and_name_alone():
    first = layer_of()
    assert [value.shape for value in first.get_weights()] == [(12, 1)] * 3 + [(12,)] * 3
    tf.random.set_seed(99)
    for a, b in zip(first.get_weights(), layer_of().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [*first.get_weights()[:3], *layer_of(name="other").get_weights()[:3]]
    assert len({float(kernel[0, 0]) for kernel in kernels}) == 6


def test_config_builds_the_same_layer():
    layer = layer_of()
    again = VectorCrossNetwork.from_config(layer.get_config())
    x = np.ones((2, FIELDS, DIM), np.float32)
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("num_layers", [0, 2.0, True])
def test_a_number_of_layers_that_is_none_is_refused(num_layers):
    with pytest.raises(ConfigError, match="`num_layers` of the vector cross network must be a "
                                          f"positive integer, got {num_layers!r}"):
        VectorCrossNetwork(num_layers=num_layers, seed=1, name="cross")
