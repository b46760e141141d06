import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.pooling import FieldCells, pool


def cells_of(widths):
    return [FieldCells(width=width, is_list=width > 1) for width in widths]


def gathered(values, rows, fields, dense=None):
    rows = tf.constant(rows, tf.int32)
    return pool(tf.gather(tf.constant(values, tf.float32), rows), rows, fields, dense).numpy()


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
def test_it_equals_the_slow_mean_of_each_field(widths):
    rng = np.random.default_rng(0)
    values, rows = rng.normal(size=(12, 2)), rng.integers(0, 12, (40, sum(widths)))
    np.testing.assert_allclose(gathered(values, rows, cells_of(widths)),
                               slow_pool(values, rows, widths), atol=1e-6)


def test_padding_is_ignored_whatever_stands_in_its_row_and_wherever_it_is():
    values = np.arange(24).reshape(12, 2)
    values[0] = [10**6, -10**6]
    rows = [[5, 7, 0], [0, 5, 7], [5, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(gathered(values, rows, cells_of([3]))[:, 0],
                               [[12, 13], [12, 13], [10, 11], [0, 0]])


def test_direct_numbers_multiply_their_row():
    fields = [FieldCells(width=1, factor=1), FieldCells(width=1), FieldCells(width=1, factor=0),
              FieldCells(width=2, is_list=True)]
    dense = tf.constant([[2.0, -3.0]])
    values = np.arange(1, 7)[:, np.newaxis] * [1, 10]
    pooled = gathered(values, [[1, 2, 3, 4, 0]], fields, dense)
    np.testing.assert_allclose(pooled[0, :, 0], [2 * -3, 3, 4 * 2, 5])
    np.testing.assert_allclose(pooled[0, :, 1], 10 * pooled[0, :, 0])


def test_a_batch_without_rows_is_answered():
    assert gathered(np.ones((3, 2)), np.zeros((0, 4)), cells_of([1, 3])).shape == (0, 2, 2)
