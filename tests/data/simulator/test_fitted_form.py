import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dualdnn.data.simulator.columns import IDS, cells_of
from dualdnn.data.simulator.fitted_form import FittedForm, Rows, fit_form
from dualdnn.data.simulator.formula import REGIMES
from dualdnn.data.simulator.impressions import impressions
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.simulator.world import LEVELS, build_world

SMALL = {"rows": 36_000, "days": 12, "users": 40, "new_items_a_day": 2}


def rows_of(settings):
    """Every row of a feed, and the true logits."""
    world = build_world(settings)
    days = [impressions(world, world.today(day), day, 0) for day in range(settings.days)]
    table = pa.Table.from_batches(days)
    p = table["true_probability"].to_numpy()
    rows = Rows(cells={name: cells_of(name, table[name]) for name in (*IDS, *LEVELS)},
                days=np.repeat(np.arange(len(days), dtype=np.int32), [d.num_rows for d in days]),
                labels=table["click"].to_numpy().astype(np.float32))
    return world, rows, np.log(p / (1 - p))


@pytest.mark.parametrize("regime", REGIMES)
def test_with_the_tables_that_were_drawn_it_is_the_truth(regime):
    settings = FeedSettings(**SMALL, regime=regime)
    world, rows, truth = rows_of(settings)
    form = FittedForm(settings=settings, seed=1)
    assert set(form.tables) == set(world.tables)
    for name, table in form.tables.items():
        table.assign(world.tables[name].reshape(-1, table.shape[1]))
    np.testing.assert_allclose(form.score(rows), truth, atol=1e-4)


def test_before_the_fit_it_knows_nothing_that_was_drawn():
    rows = rows_of(FeedSettings(**SMALL, regime="additive"))[1]
    one, other = (FittedForm(settings=FeedSettings(**SMALL, regime="additive", seed=seed), seed=1)
                  for seed in (1, 2))
    np.testing.assert_array_equal(one.score(rows), other.score(rows))
    np.testing.assert_allclose(one.score(rows), one.formula.intercept, atol=1e-6)


@pytest.mark.parametrize("regime", ["additive", "pairwise"])
def test_the_fit_comes_closer_to_the_truth_than_the_click_rate(regime):
    settings = FeedSettings(**SMALL, regime=regime)
    _, rows, truth = rows_of(settings)
    train, valid = (rows.at(np.flatnonzero(chosen)) for chosen in
                    (rows.days < 10, rows.days >= 10))
    form, loss = fit_form(train, valid, settings=settings, strength=1.0, epochs=4,
                          batch_size=512)
    at = np.flatnonzero(rows.days >= 10)
    fitted = form.score(valid)
    assert loss == pytest.approx(
        np.logaddexp(0, (1 - 2 * rows.labels[at]) * fitted).mean(), abs=1e-6)
    assert np.corrcoef(fitted, truth[at])[0, 1] > 0.8


def test_a_stronger_prior_gives_smaller_tables():
    settings = FeedSettings(**{**SMALL, "rows": 6_000}, regime="additive")
    rows = rows_of(settings)[1]
    norms = []
    for strength in (0.3, 30.0):
        form, _ = fit_form(rows, rows, settings=settings, strength=strength, epochs=3,
                           batch_size=512)
        norms.append(sum(float(tf.nn.l2_loss(table)) for table in form.tables.values()))
    assert norms[1] < 0.3 * norms[0]


def test_the_fit_is_repeatable():
    settings = FeedSettings(**{**SMALL, "rows": 6_000})
    rows = rows_of(settings)[1]
    scores = [fit_form(rows, rows, settings=settings, strength=1.0, epochs=1,
                       batch_size=512)[0].score(rows) for _ in range(2)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
