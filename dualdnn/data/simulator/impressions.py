"""One block of impressions: who saw what when, how likely a click was, and what came."""

from __future__ import annotations

import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dualdnn.data.simulator.columns import IDS, column_of
from dualdnn.data.simulator.formula import Part
from dualdnn.data.simulator.settings import BLOCK_ROWS, SLOTS
from dualdnn.data.simulator.world import (
    DAYPART_OF_HOUR,
    LEVELS,
    Floats,
    Integers,
    Today,
    World,
    generator,
)

SECONDS_PER_DAY = 86_400
_EPOCH = datetime.date(1970, 1, 1)
# Requests by hour of day: quiet nights, busy evenings.
_BUSY = np.array([3, 2, 1, 1, 1, 2, 3, 4, 5, 5, 5, 6, 7, 6, 5, 5, 5, 6, 7, 9, 10, 10, 8, 5], float)
_BUSY_UNTIL = np.concatenate([[0.0], np.cumsum(_BUSY / _BUSY.sum())])
_OWN_DEVICE, _OWN_NETWORK = 0.85, 0.6
_DEEPER = 0.7  # probability that a session goes on
_OF_USERS = ("segment", "gender", "age", "region")
_OF_ITEMS = ("author_id", "duration_seconds")


def blocks_of_day(world: World, day: int) -> int:
    """How many blocks a day has."""
    return -(-world.settings.rows_of_day(day) // BLOCK_ROWS)


def click_logits(world: World, today: Today, cells: dict[str, Integers]) -> Floats:
    """(rows,) true logits of rows given as value numbers.

    Args:
        world: with the formula.
        today: the tables of the day.
        cells: by field, (rows,) value numbers, or (rows, values) padded with -1.
    """
    tags = cells["tags"]
    per_tag = (1.0 / (tags >= 0).sum(axis=1, dtype=np.float32))[:, None]

    def take(part: Part) -> Floats:
        table, cell = today.tables[part.table], cells[part.field]
        if cell.ndim == 1:
            return table[cell]
        return sum(table[column] for column in cell.T) * per_tag

    logits: Floats = world.formula.logits(take, lambda products: products.sum(axis=-1))
    return logits


def _probabilities(logits: Floats) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def _requests(world: World, day: int, first: int, count: int, draw: np.random.Generator
              ) -> tuple[dict[str, Integers], npt.NDArray[np.int64]]:
    """Value numbers of the fields that a request fixes, and its second of the day."""
    of_day = -(-world.settings.rows_of_day(day) // SLOTS)
    # Request number q happens in the q-th of equal shares of the day's traffic, so that blocks
    # follow each other in time without knowing of each other.
    passed = (np.arange(first, first + count) + draw.random(count)) / of_day
    hours = np.interp(passed, _BUSY_UNTIL, np.arange(25.0))
    seconds = np.minimum((hours * 3_600).astype(np.int64), SECONDS_PER_DAY - 1)
    users = np.searchsorted(world.activity, draw.random(count) * world.activity[-1], "right")
    users = np.minimum(users, len(world.activity) - 1).astype(np.int32)
    hour = (seconds // 3_600).astype(np.int32)
    cells = {name: world.attributes[name][users] for name in _OF_USERS}
    for name, own in (("device", _OWN_DEVICE), ("network_mbps", _OWN_NETWORK)):
        other = draw.integers(0, len(LEVELS[name]), count, dtype=np.int32)
        cells[name] = np.where(draw.random(count) < own, world.attributes[name][users], other)
    depth = draw.geometric(1 - _DEEPER, count) - 1
    weekday = (world.settings.start() + datetime.timedelta(days=day)).weekday()
    return {
        "user_id": users, **cells, "hour": hour, "daypart": DAYPART_OF_HOUR[hour],
        "weekday": np.full(count, weekday, np.int32),
        "session_depth": np.minimum(depth, len(LEVELS["session_depth"]) - 1).astype(np.int32),
    }, seconds


def _shown(world: World, today: Today, day: int, rows: int, draw: np.random.Generator
           ) -> dict[str, Integers]:
    """Value numbers of the fields that the shown item fixes."""
    chosen = np.searchsorted(today.popularity, draw.random(rows), "right")
    items = today.items[np.minimum(chosen, len(today.items) - 1)]
    return {"item_id": items, **{name: world.attributes[name][items] for name in _OF_ITEMS},
            "tags": world.tags[items], "item_age_days": day - world.born[items]}


def impressions(world: World, today: Today, day: int, block: int) -> pa.RecordBatch:
    """Draw one block of a day, at most `BLOCK_ROWS` rows in order of time.

    Columns: the ids, the fields of `LEVELS`, `scroll_speed` (a number that means nothing),
    `request_id`, `timestamp` (seconds since the epoch, UTC), `click` (0 or 1), `dwell_seconds`
    and `click_delay_seconds` (null without a click), `true_probability` of a click,
    `sampling_rate` (probability that the row was kept had it no click).

    Args:
        world: users, items and formula.
        today: `world.today(day)`.
        day: counted from 0.
        block: counted from 0, below `blocks_of_day`.
    """
    settings = world.settings
    start = block * BLOCK_ROWS
    rows = min(BLOCK_ROWS, settings.rows_of_day(day) - start)
    draw = generator(settings, "block", day, block)
    first, count = start // SLOTS, -(-rows // SLOTS)
    request = np.arange(rows) // SLOTS
    of_requests, seconds = _requests(world, day, first, count, draw)
    cells = {name: values[request] for name, values in of_requests.items()}
    cells |= _shown(world, today, day, rows, draw)
    cells["position"] = (np.arange(rows) % SLOTS).astype(np.int32)

    logits = click_logits(world, today, cells)
    probabilities = _probabilities(logits)
    clicks = draw.random(rows) < probabilities
    # Liked items are watched for longer; nobody watches an item more than three times.
    watched = np.exp(draw.normal(-0.5, 0.6, rows) + 0.4 * (logits - world.formula.intercept))
    length = np.asarray(LEVELS["duration_seconds"])[cells["duration_seconds"]]
    dwell = length * np.minimum(watched, 3.0)
    # Log-uniform from a second to the longest delay.
    delay = settings.longest_click_delay ** draw.random(rows)
    scroll = draw.gamma(2.0, 1.0, rows)
    kept = clicks | (draw.random(rows) < settings.kept_negatives)

    date = (settings.start() - _EPOCH).days + day
    requests_before = sum(-(-settings.rows_of_day(d) // SLOTS) for d in range(day))
    batch = pa.RecordBatch.from_pydict({
        "request_id": pa.array(requests_before + first + request),
        "timestamp": pa.array(date * SECONDS_PER_DAY + seconds[request]),
        **{name: column_of(name, cells[name]) for name in (*IDS, *LEVELS)},
        "scroll_speed": pa.array(scroll.astype(np.float32)),
        "click": pa.array(clicks.astype(np.uint8)),
        "dwell_seconds": pa.array(dwell.astype(np.float32), mask=~clicks),
        "click_delay_seconds": pa.array(delay.astype(np.int32), mask=~clicks),
        "true_probability": pa.array(probabilities),
        "sampling_rate": pa.array(np.full(rows, settings.kept_negatives, np.float32)),
    })
    return batch if kept.all() else batch.filter(pa.array(kept))
