import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.hint import HintProjection
from dualdnn.layers.mlp import MLP

INPUTS = tf.random.stateless_normal((64, 5), seed=(1, 2))


def step_of(number):
    return tf.constant(number, tf.int64)


def mlp_of(*, hidden_units=(8, 4), activation="relu", dropout=0.0, seed=1, name="mlp"):
    layer = MLP(hidden_units=hidden_units, activation=activation, dropout=dropout, seed=seed,
                name=name)
    layer(INPUTS, step_of(0))
    return layer


def test_equals_matrix_products_and_returns_every_layer():
    layer = mlp_of()
    first, bias, second, offset = (value.numpy() for value in layer.weights)
    hidden = np.maximum(INPUTS.numpy() @ first + bias, 0)
    top = np.maximum(hidden @ second + offset, 0)
    found = layer(INPUTS, step_of(3))
    np.testing.assert_allclose(found[0], hidden, atol=1e-5)
    np.testing.assert_allclose(found[1], top, atol=1e-5)


def test_activation_is_used_and_no_layers_are_no_hidden_activations():
    assert (mlp_of(activation="tanh")(INPUTS, step_of(0))[1].numpy() < 0).any()
    assert mlp_of(hidden_units=())(INPUTS, step_of(0)) == []


def test_dropout_is_a_function_of_seed_name_and_step():
    def dropped(layer, step):
        return layer(INPUTS, step_of(step), training=True)[0].numpy() == 0

    layer = mlp_of(dropout=0.5, activation="linear")
    np.testing.assert_array_equal(dropped(layer, 7), dropped(layer, 7))
    # The same layer after a restart.
    np.testing.assert_array_equal(dropped(layer, 7),
                                  dropped(mlp_of(dropout=0.5, activation="linear"), 7))
    for other, step in ((layer, 8), (mlp_of(dropout=0.5, activation="linear", seed=2), 7),
                        (mlp_of(dropout=0.5, activation="linear", name="other"), 7)):
        assert (dropped(layer, 7) != dropped(other, step)).mean() > 0.3


def test_dropout_keeps_the_mean_and_its_layers_differ():
    layer = mlp_of(hidden_units=(400, 400), activation="linear", dropout=0.25)
    layer.dense[1].kernel.assign(tf.eye(400))
    first, second = layer(INPUTS, step_of(1), training=True)
    assert np.mean(first.numpy() == 0) == pytest.approx(0.25, abs=0.02)
    kept = first.numpy() != 0
    np.testing.assert_allclose(first.numpy()[kept],
                               layer(INPUTS, step_of(1))[0].numpy()[kept] / 0.75, rtol=1e-4)
    again = second.numpy()[kept] == 0
    assert np.mean(again) == pytest.approx(0.25, abs=0.02)


def test_nothing_is_dropped_outside_of_training_or_at_rate_zero():
    plain = [value.numpy() for value in mlp_of()(INPUTS, step_of(1))]
    for found in (mlp_of(dropout=0.9)(INPUTS, step_of(1)),
                  mlp_of()(INPUTS, step_of(1), training=True)):
        for value, expected in zip(found, plain, strict=True):
            np.testing.assert_array_equal(value, expected)


def test_initial_weights_are_a_function_of_seed_and_name_alone():
    kernel = mlp_of().dense[0].kernel.numpy()
    np.testing.assert_array_equal(mlp_of(hidden_units=(8, 9, 9)).dense[0].kernel.numpy(), kernel)
    assert (mlp_of(seed=2).dense[0].kernel.numpy() != kernel).all()
    assert (mlp_of(name="other").dense[0].kernel.numpy() != kernel).all()


def test_hint_projection_is_linear_and_seeded_by_its_name():
    made = [HintProjection(teacher_units=3, seed=1, name=name) for name in ("a", "a", "b")]
    outputs = [layer(INPUTS).numpy() for layer in made]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).all()
    assert outputs[0].shape == (64, 3)
    np.testing.assert_allclose(made[0](2 * INPUTS), 2 * outputs[0], rtol=1e-5)
