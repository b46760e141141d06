import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable


def table_of(widths, *, num_rows=12, dim=2, linear=True, seed=1, name="shared"):
    return EmbeddingTable(num_rows=num_rows, embedding_dim=dim, field_widths=widths,
                          initial_stddev=0.5, linear=linear, seed=seed, name=name)


def slow_pool(values, rows, widths):
    """Fields one by one: the mean over the cells that are not padding."""
    result = np.zeros((len(rows), len(widths), values.shape[1]), np.float32)
    for example, cells in enumerate(rows):
        start = 0
        for field, width in enumerate(widths):
            given = [row for row in cells[start : start + width] if width == 1 or row != 0]
            if given:
                result[example, field] = values[given].mean(axis=0)
            start += width
    return result


@pytest.mark.parametrize("widths", [(1, 1, 1), (3,), (1, 3, 1), (2, 1, 1, 3), (1, 2, 2), (1,)])
def test_lookup_equals_the_slow_mean_of_each_field(widths):
    table = table_of(widths)
    rng = np.random.default_rng(0)
    for column in table.columns():
        column.assign(rng.normal(size=column.shape))
    rows = rng.integers(0, 12, (40, sum(widths))).astype(np.int32)
    vectors, linear = table.lookup(tf.constant(rows))
    np.testing.assert_allclose(vectors, slow_pool(table.vectors.numpy(), rows, widths), atol=1e-6)
    np.testing.assert_allclose(linear, slow_pool(table.linear.numpy(), rows, widths), atol=1e-6)


def test_pooling_ignores_padding_whatever_stands_in_its_row_and_wherever_it_is():
    table = table_of((3,))
    table.vectors.assign(np.arange(24).reshape(12, 2))
    table.vectors[0].assign([1e6, -1e6])
    rows = tf.constant([[5, 7, 0], [0, 5, 7], [5, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(table.lookup(rows)[0][:, 0], [[12, 13], [12, 13], [10, 11], [0, 0]])


def test_a_batch_without_rows_is_answered():
    vectors, linear = table_of((1, 3)).lookup(tf.zeros((0, 4), tf.int32))
    assert vectors.shape == (0, 2, 2)
    assert linear.shape == (0, 2, 1)


def test_padding_and_out_of_vocabulary_rows_start_at_zero_and_the_rest_is_drawn():
    table = table_of((1, 3), num_rows=20_000)
    values = table.vectors.numpy()
    assert not values[:3].any()
    assert not table.linear.numpy().any()
    assert values[3:].std() == pytest.approx(0.5, rel=0.02)
    assert values[3:].mean() == pytest.approx(0, abs=0.02)


def test_initial_values_are_a_function_of_seed_and_name_alone():
    first = table_of((1,)).vectors.numpy()
    tf.random.normal((3,))
    np.testing.assert_array_equal(table_of((1,), linear=False).vectors.numpy(), first)
    assert (table_of((1,), seed=2).vectors.numpy() != first)[2:].all()
    assert (table_of((1,), name="alone").vectors.numpy() != first)[2:].all()


def test_columns_share_the_rows():
    assert [c.shape.as_list() for c in table_of((1, 1)).columns()] == [[12, 2], [12, 1]]
    assert [c.shape.as_list() for c in table_of((1, 1), linear=False).columns()] == [[12, 2]]
    assert table_of((1, 1)).num_rows == 12
