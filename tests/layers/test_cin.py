import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from dualdnn.errors import ConfigError
from dualdnn.layers import cin
from dualdnn.layers.cin import CompressedInteractionNetwork
from dualdnn.layers.seeds import derive_seed

FIELDS, DIM = 3, 4
ACTIVATIONS = {"linear": lambda x: x, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 16 rows in the layers after the first, so that few examples fill several."""
    monkeypatch.setattr(cin, "_TILE_FLOATS", 16 * 27)


def layer_of(sizes=(5, 4), *, split_half=False, activation="linear", seed=7, name="cin"):
    layer = CompressedInteractionNetwork(
        layer_sizes=sizes, split_half=split_half, activation=activation, seed=seed, name=name
    )
    layer.build(tf.TensorShape((None, FIELDS, DIM)))
    return layer


def inputs_of(batch_size, seed=0):
    values = np.random.default_rng(seed).normal(size=(batch_size, FIELDS, DIM))
    return values.astype(np.float32)


def slow_cin(x, kernels, *, split_half, activation):
    """The paper's formula, one map of one example at a time, in float64."""
    x = x.astype(np.float64)
    outputs = []
    for example in x:
        previous, pooled = example, []
        for k, kernel in enumerate(kernels):
            num_previous, num_maps = len(previous), kernel.shape[1]
            maps = np.zeros((num_maps, DIM))
            for h in range(num_maps):
                for i in range(num_previous):
                    for j in range(FIELDS):
                        weight = kernel[j * num_previous + i, h]
                        maps[h] += weight * previous[i] * example[j]
            maps = ACTIVATIONS[activation](maps)
            if split_half and k < len(kernels) - 1:
                previous, kept = maps[: num_maps // 2], maps[num_maps // 2 :]
            else:
                previous, kept = maps, maps
            pooled.append(kept.sum(axis=1))
        outputs.append(np.concatenate(pooled))
    return np.array(outputs)


def plain_cin(x, kernels, activation):
    """The same without tiles or custom gradients, for automatic differentiation."""
    fields = tf.transpose(x, (0, 2, 1))
    maps, pooled = fields, []
    for kernel in kernels:
        products = fields[:, :, :, None] * maps[:, :, None, :]
        products = tf.reshape(products, (-1, DIM, kernel.shape[0]))
        maps = keras.activations.get(activation)(tf.einsum("bdc,ch->bdh", products, kernel))
        pooled.append(tf.reduce_sum(maps, axis=1))
    return tf.concat(pooled, axis=1)


def gradients_of(function, x, kernels):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(function(x)))
    return tape.gradient(loss, [x, *kernels])


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("activation", ["linear", "tanh", "relu"])
@pytest.mark.parametrize(
    ("sizes", "split_half"), [((5,), False), ((6, 4), True), ((6, 4, 3), True), ((5, 4, 3), False)]
)
def test_equals_the_papers_formula(sizes, split_half, activation):
    layer = layer_of(sizes, split_half=split_half, activation=activation)
    x = inputs_of(7)
    kernels = [kernel.numpy().astype(np.float64) for kernel in layer.kernels]
    expected = slow_cin(x, kernels, split_half=split_half, activation=activation)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert tuple(layer.compute_output_shape((7, FIELDS, DIM))) == expected.shape


def test_ones_can_be_counted_by_hand():
    layer = layer_of((2, 1))
    layer.set_weights([np.ones_like(value) for value in layer.get_weights()])
    # All ones: every map of layer 1 is 3 * 3 = 9 per element, of layer 2 2 * 3 * 9 = 54;
    # summed over 4 elements.
    output = layer(np.ones((1, FIELDS, DIM), np.float32))
    np.testing.assert_array_equal(output, [[36, 36, 216]])


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("activation", ["linear", "tanh"])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 8, 9, 16, 17, 33])
def test_gradients_equal_those_without_tiles(batch_size, activation):
    # 4 rows an example: batches of 4, 8 and 16 end exactly at the end of a tile.
    layer = layer_of((9, 5, 4), activation=activation)
    x = tf.constant(inputs_of(batch_size))
    ours = gradients_of(layer, x, layer.kernels)
    plain = gradients_of(lambda x: plain_cin(x, layer.kernels, activation), x, layer.kernels)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_gradients_equal_finite_differences_with_split_half(activation):
    layer = layer_of((6, 4, 3), split_half=True, activation=activation)
    x = inputs_of(5)
    kernels = [kernel.numpy().astype(np.float64) for kernel in layer.kernels]

    def loss(x, kernels):
        return np.sin(slow_cin(x, kernels, split_half=True, activation=activation)).sum()

    d_x, *d_kernels = gradients_of(layer, tf.constant(x), layer.kernels)
    rng = np.random.default_rng(1)
    for _ in range(5):
        along_x = rng.normal(size=x.shape)
        along = [rng.normal(size=kernel.shape) for kernel in kernels]
        step = 1e-5
        up, down = (
            loss(x + s * along_x, [k + s * a for k, a in zip(kernels, along, strict=True)])
            for s in (step, -step)
        )
        expected = (up - down) / (2 * step)
        terms = zip([d_x, *d_kernels], [along_x, *along], strict=True)
        assert sum(np.sum(d * a) for d, a in terms) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_an_empty_batch_gives_no_rows_and_a_zero_gradient():
    for layer in (layer_of(), layer_of(activation="relu")):
        function = tf.function(layer)
        x = tf.zeros((0, FIELDS, DIM))
        assert layer(x).shape == function(x).shape == (0, 9)
        d_x, *d_kernels = gradients_of(function, x, layer.kernels)
        assert d_x.shape == x.shape
        assert all(not d.numpy().any() for d in d_kernels)


@pytest.mark.usefixtures("small_tiles")
def test_the_answer_for_an_example_does_not_depend_on_the_batch_around_it():
    layer = layer_of()
    function = tf.function(layer, input_signature=[tf.TensorSpec((None, FIELDS, DIM))])
    x = inputs_of(33)
    whole = function(x).numpy()
    assert whole.shape == (33, 9)
    for start, end in ((0, 1), (3, 10), (32, 33)):
        np.testing.assert_allclose(function(x[start:end]), whole[start:end], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_repeated_gradients_are_bit_identical(activation):
    layer = CompressedInteractionNetwork(
        layer_sizes=[32, 32], activation=activation, seed=1, name="cin"
    )
    x = tf.constant(np.random.default_rng(0).normal(size=(701, 12, 8)), tf.float32)
    layer(x)

    @tf.function
    def alone(x):
        return gradients_of(layer, x, layer.kernels)

    @tf.function
    def in_company(x):
        return gradients_of(layer, x, layer.kernels), tf.linalg.matmul(x, x, transpose_b=True)

    first = [value.numpy() for value in alone(x)]
    for _ in range(5):
        for again in (alone(x), in_company(x)[0]):
            for a, b in zip(first, again, strict=True):
                np.testing.assert_array_equal(a, b)


def test_weights_are_a_function_of_seed_and_name():
    first = layer_of(seed=7, name="cin")
    tf.random.set_seed(99)
    keras.layers.Dense(3).build((None, 4))
    again = layer_of(seed=7, name="cin")
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (layer_of(seed=8, name="cin"), layer_of(seed=7, name="other")):
        for a, b in zip(first.get_weights(), other.get_weights(), strict=True):
            assert (a != b).all()


def test_derived_seeds_keep_the_borders_between_names():
    assert derive_seed(1, "a", "bc") != derive_seed(1, "ab", "c")
    assert derive_seed(1, "a") == derive_seed(1, "a")
    assert all(0 <= derive_seed(i, "x") < 2**31 for i in range(100))


def test_a_saved_model_answers_alike(tmp_path):
    layer = layer_of(activation="relu")
    module = tf.Module()
    module.layer = layer
    module.serve = tf.function(layer, input_signature=[tf.TensorSpec((None, FIELDS, DIM))])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for batch_size in (0, 1, 9):
        x = inputs_of(batch_size)
        np.testing.assert_array_equal(loaded.serve(x), module.serve(x))


def test_config_builds_the_same_layer():
    layer = layer_of((6, 4), split_half=True, activation="relu")
    again = CompressedInteractionNetwork.from_config(layer.get_config())
    x = inputs_of(2)
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("sizes", [[], [128, 0], [12.5], [True], 5])
def test_layer_sizes_must_be_positive_integers(sizes):
    with pytest.raises(ConfigError, match=r"`layer_sizes` of the CIN must be one or more positive"):
        layer_of(sizes)


def test_split_layers_must_be_even_but_the_last_need_not():
    layer_of((4, 3), split_half=True)
    with pytest.raises(ConfigError, match=r"even in every layer but the last .* got \[5, 4\]"):
        layer_of((5, 4), split_half=True)


@pytest.mark.parametrize("value", ["no_thanks", 1, None])
def test_split_half_must_be_a_switch(value):
    with pytest.raises(ConfigError, match="`split_half` of the CIN must be true or false, got"):
        layer_of((4, 4), split_half=value)


def test_all_mistakes_are_reported_together():
    with pytest.raises(ConfigError, match=r"2 mistakes .*`layer_sizes`.*`activation`.*'rleu'"):
        layer_of([], activation="rleu")
