import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.embedding import EmbeddingTable
from dualdnn.training.table_optimizer import METHODS, TableOptimizer, TableOptimizerSettings

ROWS, DIM, STEPS, EXAMPLES = 30, 3, 120, 50


def optimizer_for(method, *, l2=4.0, learning_rate=0.05, linear=True, num_examples=EXAMPLES,
                  averaging=False, linear_learning_rate=None):
    table = EmbeddingTable(num_rows=ROWS, embedding_dim=DIM, zero_rows=3,
                           initial_stddev=0.3, linear=linear, seed=1, name="table")
    settings = TableOptimizerSettings(method=method, learning_rate=learning_rate, l2=l2,
                                      linear_learning_rate=linear_learning_rate)
    return TableOptimizer(settings, table, num_examples=num_examples, averaging=averaging)


class DenseReference:
    """At every step the prior moves the whole table; the rows of the batch also learn. Float64.

    The prior's share of a step is l2 / EXAMPLES * w, taken through the same preconditioner as the
    gradient, the root of the last slot: w shrinks by exp(-rate). Never touched: no slot, no rate.
    """

    def __init__(self, optimizer):
        self.settings = optimizer.settings
        self.columns = [c.numpy().astype(np.float64) for c in optimizer.table.columns()]
        self.first = [np.zeros_like(c) for c in self.columns]
        self.second = [np.zeros_like(c) for c in self.columns]
        self.steps = 0

    def apply(self, rows, gradients):
        self.steps += 1
        rate, method = self.settings.learning_rate, self.settings.method
        for column, first, second, gradient in zip(self.columns, self.first, self.second,
                                                   gradients, strict=True):
            touched = second > 0
            shrink = rate * self.settings.l2 / EXAMPLES / np.sqrt(second[touched])
            column[touched] *= np.exp(-shrink)
            if method == "adam":
                first[rows] = 0.9 * first[rows] + 0.1 * gradient
                second[rows] = 0.999 * second[rows] + 0.001 * gradient**2
                update = first[rows] / (1 - 0.9**self.steps)
                scale = np.sqrt(second[rows] / (1 - 0.999**self.steps))
            else:
                square = gradient**2
                if method == "rowwise_adagrad":
                    square = square.mean(axis=1, keepdims=True) + np.zeros_like(square)
                second[rows] += square
                update, scale = gradient, np.sqrt(second[rows])
            column[rows] -= rate * update / (scale + 1e-8)


def batch(rng, columns=2):
    """Distinct rows, some of them rarely drawn, and a gradient for each column."""
    rows = np.unique((ROWS * rng.random(8) ** 3).astype(np.int32))
    return rows, [rng.normal(size=(len(rows), size)).astype(np.float32)
                  for size in (DIM, 1)[:columns]]


def take_step(optimizer, rows, gradients):
    rows = tf.constant(rows)
    optimizer.apply(rows, optimizer.read(rows), [tf.constant(g, tf.float32) for g in gradients])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("l2", [0.0, 4.0])
def test_equals_decaying_the_whole_table_at_every_step(method, l2):
    optimizer = optimizer_for(method, l2=l2)
    reference, rng = DenseReference(optimizer), np.random.default_rng(2)
    for step in range(STEPS):
        rows, gradients = batch(rng)
        # What the model reads is the decayed row, however long it was unseen, however often read.
        for _ in range(2):
            for value, column in zip(optimizer.read(tf.constant(rows)), reference.columns,
                                     strict=True):
                np.testing.assert_allclose(value, column[rows], rtol=1e-5, atol=1e-6)
        take_step(optimizer, rows, gradients)
        reference.apply(rows, gradients)
        if rng.random() < 0.1 or step == STEPS - 1:
            for _ in range(2):
                optimizer.catch_up()
                for column, expected in zip(optimizer.table.columns(), reference.columns,
                                            strict=True):
                    np.testing.assert_allclose(column, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_touches_only_the_rows_of_the_batch(method):
    optimizer = optimizer_for(method)
    kept = [*optimizer.table.columns(), *(slot for slots in optimizer.slots for slot in slots)]
    take_step(optimizer, [4, 7], [np.ones((2, DIM)), np.ones((2, 1))])
    before = [variable.numpy() for variable in kept]
    take_step(optimizer, [5, 9], [np.ones((2, DIM), np.float32), np.ones((2, 1), np.float32)])
    for variable, old in zip(kept, before, strict=True):
        changed = np.flatnonzero((variable.numpy() != old).any(axis=1))
        assert changed.tolist() == [5, 9], variable.name


@pytest.mark.parametrize("method", METHODS)
def test_first_order_weights_have_a_rate_of_their_own(method):
    """A tenth of it moves them, and their prior, by a tenth; the vectors as before."""
    moved, decayed = [], []
    for rate in (None, 0.005):
        optimizer = optimizer_for(method, learning_rate=0.05, linear_learning_rate=rate)
        before = [column.numpy()[4:5] for column in optimizer.table.columns()]
        take_step(optimizer, [4], [np.ones((1, DIM)), np.ones((1, 1))])
        now = [column.numpy()[4:5] for column in optimizer.table.columns()]
        moved.append([new - old for new, old in zip(now, before, strict=True)])
        optimizer.steps.assign_add(1)
        decayed.append([np.log(new / old) for new, old in
                        zip(optimizer.read(tf.constant([4])), now, strict=True)])
    for (vectors, linear), (slow_vectors, slow_linear) in (moved, decayed):
        np.testing.assert_array_equal(slow_vectors, vectors)
        np.testing.assert_allclose(slow_linear, linear / 10, rtol=1e-4)
        assert linear.all()


@pytest.mark.parametrize("method", METHODS)
def test_a_row_learns_alike_whatever_happens_to_other_rows(method):
    alone, busy = optimizer_for(method), optimizer_for(method)
    rng = np.random.default_rng(3)
    for _ in range(20):
        gradients = [rng.normal(size=(1, size)).astype(np.float32) for size in (DIM, 1)]
        take_step(alone, [6], gradients)
        take_step(busy, [6, 11], [np.concatenate([g, 9 * g]) for g in gradients])
    for mine, theirs in zip(alone.table.columns(), busy.table.columns(), strict=True):
        np.testing.assert_array_equal(mine[6], theirs[6])


@pytest.mark.parametrize("averaging", [False, True])
def test_rows_and_tables_start_anew_with_their_slots(averaging):
    first = optimizer_for("adagrad", averaging=averaging).variables()
    optimizer = optimizer_for("adagrad", averaging=averaging)
    take_step(optimizer, [4, 7], [np.ones((2, DIM)), np.ones((2, 1))])
    learned = [variable.numpy() for variable in optimizer.variables()]
    optimizer.table.renew(np.array([4], np.int32), draw=1)
    optimizer.renew(np.array([4], np.int32))
    for slots in optimizer.slots:
        assert not slots[0][4].numpy().any()
        assert slots[0][7].numpy().all()
    for average, column in zip(optimizer.averages, optimizer.table.columns(), strict=averaging):
        np.testing.assert_array_equal(average[4], column[4])
    optimizer.table.reset(ROWS)
    optimizer.reset(EXAMPLES)
    assert any(np.any(one != variable.numpy())
               for one, variable in zip(learned, first, strict=True))
    for variable, expected in zip(optimizer.variables(), first, strict=True):
        np.testing.assert_array_equal(variable, expected)


@pytest.mark.parametrize("method", METHODS)
def test_padding_stays_zero(method):
    optimizer = optimizer_for(method)
    for _ in range(10):
        take_step(optimizer, [0, 5], [np.array([[0.0] * DIM, [1.0] * DIM], np.float32),
                                      np.array([[0.0], [1.0]], np.float32)])
    optimizer.catch_up()
    for column in optimizer.table.columns():
        assert not column[0].numpy().any()
        assert np.isfinite(column.numpy()).all()


def test_without_l2_nothing_has_to_be_caught_up():
    optimizer, rng = optimizer_for("adam", l2=0.0), np.random.default_rng(4)
    for _ in range(5):
        take_step(optimizer, *batch(rng))
    before = [column.numpy() for column in optimizer.table.columns()]
    optimizer.catch_up()
    for column, old in zip(optimizer.table.columns(), before, strict=True):
        np.testing.assert_array_equal(column, old)


def test_a_table_that_rests_does_not_decay():
    optimizer, rng = optimizer_for("adam"), np.random.default_rng(5)
    take_step(optimizer, *batch(rng))
    optimizer.catch_up()
    before = optimizer.table.vectors.numpy()
    for _ in range(3):
        optimizer.catch_up()
        np.testing.assert_array_equal(optimizer.read(tf.range(ROWS))[0], before)


def test_catch_up_reaches_every_row_of_a_table_of_several_chunks(monkeypatch):
    monkeypatch.setattr("dualdnn.training.table_optimizer._CHUNK_ROWS", 7)
    optimizer = optimizer_for("rowwise_adagrad", linear=False)
    optimizer.slots[0][0].assign(tf.fill((ROWS, 1), 0.25))
    # Three steps at 0.05 * 4 / 50 / 0.5 each.
    expected = optimizer.table.vectors.numpy() * np.exp(-3 * 0.008)
    for _ in range(3):
        take_step(optimizer, [1], [np.zeros((1, DIM), np.float32)])
    optimizer.catch_up()
    np.testing.assert_allclose(optimizer.table.vectors, expected, rtol=1e-6)
    assert set(optimizer.decayed_to.numpy()) == {3}


@pytest.mark.parametrize("method", METHODS)
def test_the_prior_pulls_rare_rows_harder_and_leaves_unseen_rows_alone(method):
    optimizer = optimizer_for(method, l2=0.5)
    start = optimizer.table.vectors.numpy()
    for step in range(60):
        rows = [8, 9] if step == 0 else [8]
        take_step(optimizer, rows, [np.ones((len(rows), size)) for size in (DIM, 1)])
    before = optimizer.read(tf.constant([8, 9, 10]))[0].numpy()
    optimizer.steps.assign_add(50)
    kept = optimizer.read(tf.constant([8, 9, 10]))[0].numpy() / before
    assert np.all(kept[1] < kept[0])
    assert np.all(kept[0] < 1)
    np.testing.assert_array_equal(before[2], start[10])
    np.testing.assert_array_equal(kept[2], 1)


def test_l2_is_in_units_of_the_loss_summed_over_the_training_part():
    found = []
    for l2, num_examples in ((2.0, 100), (4.0, 200), (4.0, 100)):
        optimizer = optimizer_for("adagrad", l2=l2, num_examples=num_examples)
        take_step(optimizer, [7], [np.ones((1, size)) for size in (DIM, 1)])
        optimizer.steps.assign_add(100)
        found.append(optimizer.read(tf.constant([7]))[0].numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert np.all(np.abs(found[2]) < np.abs(found[0]))


@pytest.mark.parametrize("accumulated", [1e-30, 1e-6, 1e30])
@pytest.mark.parametrize("missed", [0, 1, 10**9])
def test_strong_and_weak_decay_over_any_time_stays_finite(accumulated, missed):
    optimizer = optimizer_for("adagrad", linear=False)
    optimizer.slots[0][0].assign(tf.fill((ROWS, DIM), accumulated))
    optimizer.steps.assign(missed)
    found = optimizer.read(tf.constant([9]))[0].numpy()[0]
    rate = 0.05 * 4 / EXAMPLES / np.sqrt(accumulated)
    expected = optimizer.table.vectors[9].numpy() * np.exp(-missed * rate)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)


def test_slots_have_the_promised_size():
    def floats(method):
        slots = optimizer_for(method, linear=False).slots[0]
        return sum(slot.numpy().size for slot in slots)

    assert floats("adam") == 2 * ROWS * DIM
    assert floats("adagrad") == ROWS * DIM
    assert floats("rowwise_adagrad") == ROWS


@pytest.mark.parametrize(("values", "match"), [
    ({"method": "sgd"}, r"t\.method must be one of adam, adagrad, rowwise_adagrad, got 'sgd'"),
    ({"learning_rate": 0.0}, r"t\.learning_rate must be > 0, got 0\.0"),
    ({"learning_rate": float("nan")}, r"t\.learning_rate must be > 0, got nan"),
    ({"linear_learning_rate": 0.0}, r"t\.linear_learning_rate must be > 0 or null, got 0\.0"),
    ({"l2": -1.0}, r"t\.l2 must be >= 0, got -1\.0\. Use 0 to switch it off"),
])
def test_mistakes_name_the_setting_and_the_value(values, match):
    found = TableOptimizerSettings(**values).mistakes("t")
    assert len(found) == 1
    with pytest.raises(ValueError, match=match):
        raise ValueError(found[0])
    assert TableOptimizerSettings().mistakes("t") == []
