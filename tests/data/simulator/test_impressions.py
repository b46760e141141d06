import numpy as np
import pyarrow as pa
import pytest

from dualdnn.data.simulator.columns import cells_of, column_of
from dualdnn.data.simulator.formula import REGIMES, layers_on
from dualdnn.data.simulator.impressions import blocks_of_day, click_logits, impressions
from dualdnn.data.simulator.settings import BLOCK_ROWS, SLOTS, FeedSettings
from dualdnn.data.simulator.world import DAYPART_OF_HOUR, LEVELS, build_world

FIRST_SECOND = 1_704_067_200  # 2024-01-01


def feed_of(**changes):
    return FeedSettings(**{"rows": 120_000, "days": 2, "users": 500, "new_items_a_day": 40,
                           **changes})


def day_of(settings, day=0):
    world = build_world(settings)
    today = world.today(day)
    return pa.Table.from_batches([impressions(world, today, day, block)
                                  for block in range(blocks_of_day(world, day))])


@pytest.fixture(scope="module")
def pairwise():
    return day_of(feed_of(rows=400_000), day=1)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_click_rate_is_the_mean_true_probability_overall_and_in_every_decile(regime):
    table = day_of(feed_of(regime=regime, rows=200_000), day=1)
    p, click = table["true_probability"].to_numpy(), table["click"].to_numpy()
    order = np.argsort(p)
    for part in (order, *np.array_split(order, 10)):
        error = np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
        assert abs(click[part].mean() - p[part].mean()) < 4 * error
    assert 0.2 < click.mean() < 0.4


@pytest.mark.parametrize("regime", REGIMES)
def test_the_true_probability_is_the_formula_written_as_a_slow_loop(regime):
    settings = feed_of(regime=regime, rows=800, days=20)
    world, table = build_world(settings), day_of(settings, day=13)
    cells = {name: cells_of(name, table[name]) for name in (*LEVELS, "user_id", "item_id",
                                                            "author_id")}
    for row in range(table.num_rows):
        logit = world.formula.intercept
        for term in world.formula.terms:
            for k in range(term.rank):
                product = term.scale / term.rank**0.5
                for factor in term.factors:
                    product *= sum(part.weight * np.mean([
                        sum(share * world.tables[part.table][layer, value, k]
                            for layer, share in layers_on(part, 13))
                        for value in np.atleast_1d(cells[part.field][row]) if value >= 0
                    ]) for part in factor)
                logit += product
        assert table["true_probability"][row].as_py() == pytest.approx(
            1 / (1 + np.exp(-logit)), abs=1e-5)


def test_a_block_does_not_depend_on_what_else_is_drawn():
    settings = feed_of(rows=250_000)
    world = build_world(settings)
    alone = impressions(world, world.today(1), 1, 2)
    whole = day_of(settings, day=1)
    assert whole.slice(2 * BLOCK_ROWS).equals(pa.Table.from_batches([alone]))
    assert alone.num_rows == 125_000 - 2 * BLOCK_ROWS


def test_another_seed_is_another_feed():
    one, other = (day_of(feed_of(rows=1_600, seed=seed)) for seed in (1, 2))
    assert one.num_rows == other.num_rows
    for column in ("user_id", "item_id", "true_probability", "click"):
        assert not one[column].equals(other[column])


def test_rows_are_in_order_of_time_inside_their_day(pairwise):
    seconds = pairwise["timestamp"].to_numpy()
    assert (np.diff(seconds) >= 0).all()
    assert seconds[0] >= FIRST_SECOND + 86_400
    assert seconds[-1] < FIRST_SECOND + 2 * 86_400
    hours = pairwise["hour"].to_numpy()
    assert (hours == seconds % 86_400 // 3_600).all()
    assert set(hours) == set(range(24))
    dayparts = np.array(LEVELS["daypart"])[DAYPART_OF_HOUR[hours]]
    assert (dayparts == np.array(pairwise["daypart"].to_pylist())).all()
    assert set(pairwise["weekday"].to_numpy()) == {1}  # 2024-01-02 was a Tuesday


def test_a_request_is_one_user_at_one_time_with_every_position_once(pairwise):
    frame = pairwise.select(["request_id", "user_id", "timestamp", "device", "position"]
                            ).to_pandas().groupby("request_id")
    assert (frame["position"].agg(list).map(tuple) == tuple(range(1, SLOTS + 1))).all()
    assert (frame[["user_id", "timestamp", "device"]].nunique() == 1).all().all()


def test_request_ids_go_on_from_day_to_day():
    settings = feed_of(rows=2_002)  # 1,001 a day: the last request of a day has one row
    ids = [day_of(settings, day)["request_id"].to_numpy() for day in (0, 1)]
    assert [len(of_day) for of_day in ids] == [1_001, 1_001]
    assert (ids[0][-1], ids[1][0]) == (125, 126)


def test_a_fifth_of_the_rows_of_every_day_touch_young_items():
    settings = feed_of(days=31, rows=31 * 20_000, new_items_a_day=500)
    for day in (0, 15, 30):
        ages = day_of(settings, day)["item_age_days"].to_numpy()
        assert 0.2 < (ages < 3).mean() < 0.4


def test_items_live_from_their_birth_to_their_death():
    settings = feed_of(days=31, rows=31 * 8_000)
    world = build_world(settings)
    for day in (0, 30):
        table = day_of(settings, day)
        items, ages = table["item_id"].to_numpy(), table["item_age_days"].to_numpy()
        assert (world.born[items] + ages == day).all()
        assert (ages < world.life[items]).all()
    assert (world.born == 30).sum() == settings.new_items_a_day


def test_ids_follow_a_zipf_law(pairwise):
    for column in ("user_id", "item_id"):
        counts = np.sort(np.unique(pairwise[column].to_numpy(), return_counts=True)[1])[::-1]
        # Of a uniform law the first tenth would have about a tenth of the rows.
        assert counts[:len(counts) // 10].sum() > 0.3 * counts.sum()


def test_an_item_looks_the_same_wherever_it_is_shown(pairwise):
    frame = pairwise.select(["item_id", "author_id", "duration_seconds", "tags"]).to_pandas()
    frame["tags"] = frame["tags"].map(tuple)
    assert (frame.groupby("item_id").nunique() == 1).all().all()
    counts = frame["tags"].map(len)
    assert set(counts) == {1, 2, 3}
    assert (frame["tags"].map(lambda tags: len(set(tags))) == counts).all()


def test_dwell_and_delay_are_there_where_there_was_a_click(pairwise):
    clicked = pairwise["click"].to_numpy() == 1
    for column, most in (("dwell_seconds", 540), ("click_delay_seconds", 86_400)):
        missing = pairwise[column].is_null().to_numpy()
        assert (missing == ~clicked).all()
        values = pairwise[column].drop_null().to_numpy()
        assert values.min() > 0
        assert values.max() <= most
    # Some clicks come hours later.
    assert 0.1 < (values > 10_000).mean() < 0.3


def test_the_longest_click_delay_bounds_the_delay():
    delays = day_of(feed_of(rows=4_000, longest_click_delay=60))["click_delay_seconds"]
    assert 30 < delays.drop_null().to_numpy().max() <= 60


def test_sampled_negatives_leave_the_clicks_and_their_share_of_the_rest():
    whole, sampled = (day_of(feed_of(kept_negatives=rate)) for rate in (1.0, 0.25))
    assert set(whole["sampling_rate"].to_numpy()) == {1.0}
    assert set(sampled["sampling_rate"].to_numpy()) == {0.25}
    clicks, kept_clicks = (int(table["click"].to_numpy().sum()) for table in (whole, sampled))
    assert clicks == kept_clicks
    negatives = whole.num_rows - clicks
    kept = sampled.num_rows - clicks
    assert abs(kept - 0.25 * negatives) < 4 * np.sqrt(0.25 * 0.75 * negatives)
    # Weighing the kept negatives by 1 / rate gives the click rate back: nothing but chance decides.
    assert clicks / (clicks + kept / 0.25) == pytest.approx(clicks / whole.num_rows, abs=0.005)
    # What is kept was drawn as without sampling.
    pairs = [set(zip(table["request_id"].to_pylist(), table["position"].to_pylist(),
                     table["true_probability"].to_pylist(), strict=True))
             for table in (whole, sampled)]
    assert pairs[1] < pairs[0]


def test_position_and_age_effects_fall():
    world = build_world(feed_of())
    for name in ("effect.position", "effect.item_age_days"):
        assert (np.diff(world.tables[name][0, :, 0]) < 0).all()


def test_columns_come_back_as_value_numbers(pairwise):
    for name in LEVELS:
        cells = cells_of(name, pairwise[name].slice(0, 3_000))
        again = column_of(name, cells)
        assert again.to_pylist() == pairwise[name].slice(0, 3_000).to_pylist()
        assert cells.min() >= (-1 if name == "tags" else 0)


def test_regimes_share_users_items_and_effects():
    one, other = (build_world(feed_of(regime=regime)) for regime in ("additive", "third_order"))
    assert (one.tags == other.tags).all()
    assert all((one.tables[name] == other.tables[name]).all() for name in one.tables)
    cells = {name: cells_of(name, column) for name, column in zip(
        ("user_id", "item_id", "author_id", *LEVELS),
        day_of(feed_of(rows=1_600)).select(["user_id", "item_id", "author_id", *LEVELS]).columns,
        strict=True)}
    assert not np.allclose(click_logits(one, one.today(0), cells),
                           click_logits(other, other.today(0), cells))
