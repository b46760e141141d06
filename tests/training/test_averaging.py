import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable
from dualdnn.training.averaging import ENDLESS, DenseAverage, share_kept
from dualdnn.training.table_optimizer import TableOptimizer, TableOptimizerSettings


@pytest.mark.parametrize("horizon", [ENDLESS, 20, 1000, 0])
@pytest.mark.parametrize(("since", "now"), [(0, 0), (0, 1), (3, 4), (0, 7), (12, 40), (999, 1100)])
def test_the_closed_form_is_the_product_of_every_step(since, now, horizon):
    steps = np.minimum(np.arange(since, now), horizon)
    expected = np.prod((steps + 1) / (steps + 10))
    kept = share_kept(tf.constant(since, tf.int64), tf.constant(now, tf.int64),
                      tf.constant(horizon, tf.int64))
    assert kept.numpy() == pytest.approx(expected, rel=2e-5)


def test_the_first_steps_by_hand():
    variable = tf.Variable([0.0])
    average = DenseAverage([variable])
    variable.assign([10.0])
    # 9/10 of the way from 0 to 10
    average.update(tf.constant(0, tf.int64), tf.constant(ENDLESS, tf.int64))
    assert average.averages[0].numpy() == pytest.approx([9.0])
    variable.assign([20.0])
    # 9/11 of the way from 9 to 20
    average.update(tf.constant(1, tf.int64), tf.constant(ENDLESS, tf.int64))
    assert average.averages[0].numpy() == pytest.approx([18.0])


def test_exchanging_twice_restores_every_bit_and_settling_forgets():
    variable = tf.Variable([0.1, 0.7])
    average = DenseAverage([variable])
    variable.assign([1 / 3, 2.0])
    average.update(tf.constant(0, tf.int64), tf.constant(ENDLESS, tf.int64))
    live, averaged = variable.numpy(), average.averages[0].numpy()
    average.exchange()
    np.testing.assert_array_equal(variable.numpy(), averaged)
    average.exchange()
    np.testing.assert_array_equal(variable.numpy(), live)
    np.testing.assert_array_equal(average.averages[0].numpy(), averaged)
    average.settle()
    np.testing.assert_array_equal(average.averages[0].numpy(), live)


def stepped(optimizer, steps, catch_up_after=()):
    """Random sparse steps; every row's value after each step, read without touching it."""
    rng = np.random.default_rng(3)
    every = tf.range(optimizer.table.num_rows)
    values = []
    for step in range(steps):
        chosen = rng.choice(optimizer.table.num_rows, 3, replace=False)
        rows = tf.constant(np.sort(chosen), tf.int32)
        gradients = [tf.constant(rng.normal(size=(3, c.shape[1])), tf.float32)
                     for c in optimizer.table.columns()]
        optimizer.apply(rows, optimizer.read(rows), gradients)
        values.append([value.numpy() for value in optimizer.read(every)])
        if step in catch_up_after:
            optimizer.catch_up()
    return values


def make(l2):
    table = EmbeddingTable(num_rows=8, embedding_dim=2, zero_rows=2, initial_stddev=0.1,
                           linear=True, seed=1, name="t")
    return TableOptimizer(TableOptimizerSettings(learning_rate=0.05, l2=l2), table,
                          num_examples=50, averaging=True)


def test_lazy_averages_equal_averaging_the_whole_table_at_every_step():
    optimizer = make(l2=0.0)
    expected = [column.numpy().astype(np.float64) for column in optimizer.table.columns()]
    for step, values in enumerate(stepped(optimizer, 40)):
        expected = [value + (step + 1) / (step + 10) * (average - value)
                    for average, value in zip(expected, values, strict=True)]
    optimizer.catch_up()
    for average, wanted in zip(optimizer.averages, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_row_that_starts_anew_is_averaged_as_in_a_table_that_starts_with_it():
    """However old the table is: else what few steps have taught a new id would hardly be served."""
    old, young = make(l2=2.0), make(l2=2.0)
    stepped(old, 30)
    old.renew(np.arange(8, dtype=np.int32))
    for column, value in zip(old.table.columns(), young.table.columns(), strict=True):
        column.assign(value)
    for average, column in zip(old.averages, old.table.columns(), strict=True):
        average.assign(column)
    for optimizer in (old, young):
        stepped(optimizer, 5)
        optimizer.catch_up()
    for one, other in zip(old.averages, young.averages, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)


def test_catching_up_early_changes_nothing_where_nothing_decays():
    late, early = make(l2=0.0), make(l2=0.0)
    stepped(late, 25)
    stepped(early, 25, catch_up_after=(4, 5, 17))
    late.catch_up(), early.catch_up()
    for one, other in zip(late.averages, early.averages, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-7)


def test_the_average_changes_no_live_row():
    averaged = make(l2=2.0)
    plain = TableOptimizer(averaged.settings, make(l2=2.0).table, num_examples=50)
    for one, other in zip(stepped(averaged, 20), stepped(plain, 20), strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_exchanging_a_table_twice_restores_it():
    optimizer = make(l2=2.0)
    stepped(optimizer, 10)
    optimizer.catch_up()
    live = [column.numpy() for column in optimizer.table.columns()]
    averages = [average.numpy() for average in optimizer.averages]
    assert any(np.any(a != b) for a, b in zip(live, averages, strict=True))
    optimizer.exchange()
    for column, average in zip(optimizer.table.columns(), averages, strict=True):
        np.testing.assert_array_equal(column.numpy(), average)
    optimizer.exchange()
    for column, value in zip(optimizer.table.columns(), live, strict=True):
        np.testing.assert_array_equal(column.numpy(), value)
