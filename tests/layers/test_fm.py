import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import itertools

import numpy as np

from dualdnn.layers.fm import BiInteraction


def test_equals_the_sum_over_all_pairs():
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    expected = sum(x[:, i] * x[:, j] for i, j in itertools.combinations(range(4), 2))
    layer = BiInteraction(name="fm")
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert tuple(layer.compute_output_shape(x.shape)) == (5, 3)
    assert layer.weights == []


def test_three_fields_by_hand():
    # 1*2 + 1*3 + 2*3 and 0*1 + 0*5 + 1*5.
    assert BiInteraction(name="fm")(np.array([[[1.0, 0], [2, 1], [3, 5]]])).numpy().tolist() == [
        [11, 5]]


def test_one_field_has_no_pair():
    assert not np.any(BiInteraction(name="fm")(np.ones((2, 1, 3), np.float32)))
