import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.fm import BiInteraction, FactorizationMachine


def vectors(fields=5, dim=3):
    return np.random.default_rng(1).normal(size=(4, fields, dim)).astype(np.float32)


def test_by_hand():
    given = tf.constant([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    # 1*3 + 1*5 + 3*5 and 2*4 + 2*6 + 4*6
    np.testing.assert_allclose(BiInteraction(name="pairs")(given), [[23.0, 44.0]])
    np.testing.assert_allclose(FactorizationMachine(name="fm")(given), [[67.0]])


def test_the_papers_sums_over_all_pairs():
    given = vectors()
    pairs = [sum(one[i] * one[j] for i, j in itertools.combinations(range(5), 2)) for one in given]
    np.testing.assert_allclose(BiInteraction(name="pairs")(given), pairs, rtol=1e-4, atol=1e-5)
    inner = [[sum(one[i] @ one[j] for i, j in itertools.combinations(range(5), 2))]
             for one in given]
    np.testing.assert_allclose(FactorizationMachine(name="fm")(given), inner, rtol=1e-4, atol=1e-5)


def test_one_field_has_no_pair():
    np.testing.assert_allclose(FactorizationMachine(name="fm")(vectors(fields=1)), np.zeros((4, 1)),
                               atol=1e-6)


@pytest.mark.parametrize("cls", [BiInteraction, FactorizationMachine])
def test_shape_and_configuration(cls):
    layer = cls(seed=3, name="fm")
    assert tuple(layer.compute_output_shape(tf.TensorShape((None, 5, 3)))) == (
        None, *layer(vectors()).shape[1:])
    assert layer.get_config() == cls(**layer.get_config()).get_config()
    assert layer.trainable_variables == []
