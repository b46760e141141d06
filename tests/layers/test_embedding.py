import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable


def table_of(zero_rows, *, num_rows=12, dim=2, linear=True, seed=1, name="shared", **options):
    return EmbeddingTable(num_rows=num_rows, embedding_dim=dim, zero_rows=zero_rows,
                          initial_stddev=0.5, linear=linear, seed=seed, name=name, **options)


def test_padding_and_out_of_vocabulary_rows_start_at_zero_and_the_rest_is_drawn():
    table = table_of(3, num_rows=20_000)
    values = table.vectors.numpy()
    assert not values[:3].any()
    assert not table.linear.numpy().any()
    assert values[3:].std() == pytest.approx(0.5, rel=0.02)
    assert values[3:].mean() == pytest.approx(0, abs=0.02)


def test_initial_values_are_a_function_of_seed_and_name_alone():
    first = table_of(2).vectors.numpy()
    tf.random.set_seed(5)  # where an earlier test has asked for determinism, there must be one
    tf.random.normal((3,))
    np.testing.assert_array_equal(table_of(2, linear=False).vectors.numpy(), first)
    assert (table_of(2, seed=2).vectors.numpy() != first)[2:].all()
    assert (table_of(2, name="alone").vectors.numpy() != first)[2:].all()


def test_known_vectors_are_the_initial_ones():
    known = np.arange(24, dtype=np.float32).reshape(12, 2)
    np.testing.assert_array_equal(table_of(2, initial=known).vectors, known)


def test_columns_share_the_rows():
    assert [list(c.numpy().shape) for c in table_of(3).columns()] == [[12, 2], [12, 1]]
    assert [list(c.numpy().shape) for c in table_of(3, linear=False).columns()] == [[12, 2]]
    assert table_of(3).num_rows == 12
