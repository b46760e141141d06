import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.errors import ConfigError
from dualdnn.layers.cross import CrossNetwork

FIELDS, DIM = 3, 4


def layer_of(*, num_layers=3, projection_dim=None, seed=5, name="cross"):
    layer = CrossNetwork(num_layers=num_layers, projection_dim=projection_dim, seed=seed, name=name)
    layer.build(tf.TensorShape((None, FIELDS, DIM)))
    return layer


@pytest.mark.parametrize("projection_dim", [None, 2])
def test_equals_the_papers_formula(projection_dim):
    layer = layer_of(projection_dim=projection_dim)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=value.shape) for value in layer.get_weights()])
    x = rng.normal(size=(5, FIELDS, DIM)).astype(np.float32)

    first = x.reshape(5, FIELDS * DIM).astype(np.float64)
    expected, weights = first, iter(layer.get_weights())
    for _ in range(3):
        product = expected
        for _ in range(1 if projection_dim is None else 2):
            product = product @ next(weights)
        expected = first * (product + next(weights)) + expected
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert tuple(layer.compute_output_shape((5, FIELDS, DIM))) == expected.shape


def test_zero_weights_pass_the_flattened_input_on():
    layer = layer_of()
    layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    x = np.arange(24, dtype=np.float32).reshape(2, FIELDS, DIM)
    np.testing.assert_array_equal(layer(x), x.reshape(2, 12))


def test_weights_are_a_function_of_seed_and_name():
    first = layer_of()
    tf.random.set_seed(99)
    for a, b in zip(first.get_weights(), layer_of().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = layer_of(name="other")
    for a, b in zip(first.get_weights(), other.get_weights(), strict=True):
        assert a.ndim == 1 or (a != b).all()


def test_the_two_low_rank_matrices_and_the_layers_start_from_different_numbers():
    kernels = [w for w in layer_of(projection_dim=2).get_weights() if w.ndim == 2]
    assert len(kernels) == 6
    starts = {tuple(kernel.ravel()[:4] / np.abs(kernel.ravel()[0])) for kernel in kernels}
    assert len(starts) == 6


def test_a_saved_model_answers_alike(tmp_path):
    module = tf.Module()
    module.layer = layer_of(projection_dim=2)
    module.serve = tf.function(module.layer, input_signature=[tf.TensorSpec((None, FIELDS, DIM))])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    x = np.random.default_rng(0).normal(size=(9, FIELDS, DIM)).astype(np.float32)
    np.testing.assert_array_equal(loaded.serve(x), module.serve(x))


def test_config_builds_the_same_layer():
    layer = layer_of(projection_dim=2)
    again = CrossNetwork.from_config(layer.get_config())
    x = np.ones((2, FIELDS, DIM), np.float32)
    np.testing.assert_array_equal(again(x), layer(x))


def test_all_mistakes_are_reported_together():
    with pytest.raises(ConfigError, match=r"2 mistakes .*`num_layers`.* got 0.*`projection_dim`"):
        CrossNetwork(num_layers=0, projection_dim=-1, seed=1, name="cross")


def test_a_projection_as_wide_as_the_input_is_refused():
    with pytest.raises(ConfigError, match=r"below num_fields \* embedding_dim = 12, got 12"):
        layer_of(projection_dim=12)
