"""Who and what is in a simulated feed: users, items, and the tables of the formula."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dualdnn.data.simulator.formula import Formula, Part, formula_of, layers_on, num_layers
from dualdnn.data.simulator.settings import SLOTS, FeedSettings

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]

LONGEST_LIFE = 30
_SHORTEST_LIFE = 3
_FRESHNESS_DAYS = 20.0
_MOST_TAGS = 3
_ZIPF_USERS, _ZIPF_ITEMS, _ZIPF_TAGS, _ZIPF_SEGMENTS = 0.8, 0.8, 0.4, 0.3
_ITEMS_PER_AUTHOR = 10
# How much likelier an item has its author's favourite tag, as a factor.
_AUTHORS_FAVOURITE = 12.0
_DAYPARTS = ("night", "morning", "noon", "afternoon", "evening", "late")
DAYPART_OF_HOUR = np.array([0] * 6 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 2, np.int32)

# What the lake holds for value number 0, 1, 2, ... of a field. Numbers come in levels, ascending,
# so that quantile buckets can tell them apart and every effect is a step function of buckets.
LEVELS: dict[str, tuple[str, ...] | tuple[int, ...]] = {
    "segment": tuple(f"s{i:02d}" for i in range(24)),
    "gender": ("f", "m", "x"),
    "age": (16, 20, 25, 30, 35, 40, 45, 50, 60, 70),
    "region": tuple(f"r{i:02d}" for i in range(12)),
    "tags": tuple(f"t{i:02d}" for i in range(40)),
    "duration_seconds": (5, 8, 10, 12, 15, 20, 30, 45, 60, 90, 120, 180),
    "item_age_days": tuple(range(LONGEST_LIFE)),
    "position": tuple(range(1, SLOTS + 1)),
    "hour": tuple(range(24)),
    "weekday": tuple(range(7)),
    "daypart": _DAYPARTS,
    "device": ("android", "ios", "tablet", "desktop", "tv"),
    "network_mbps": (1, 5, 20, 50, 200),
    "session_depth": tuple(range(10)),
}


def generator(settings: FeedSettings, *keys: str | int) -> np.random.Generator:
    """Random numbers that depend on the seed and the keys alone, not on what was drawn before."""
    numbers = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.default_rng(np.random.SeedSequence([settings.seed, *numbers]))


def zipf(size: int, exponent: float) -> npt.NDArray[np.float64]:
    """(size,) probabilities that fall with the rank."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


@dataclass(frozen=True, kw_only=True)
class Today:
    """What a day needs: the living items and the tables of the formula as they stand.

    Attributes:
        items: (living,) ids of the items alive.
        popularity: (living,) cumulative probability of being shown.
        tables: by name, (values + 1, rank); the last row is zero and stands for padding.
    """

    items: Integers
    popularity: npt.NDArray[np.float64]
    tables: dict[str, Floats]


@dataclass(frozen=True, kw_only=True)
class World:
    """Users and items, a function of the settings; a few dozen bytes for each.

    Attributes:
        settings: of the feed.
        formula: of its regime.
        attributes: by field, the value number of each user, item or author.
        tags: (items, 3) value numbers, -1 for padding.
        born: (items,) day of birth, counted from the first day of the log.
        life: (items,) days that the item lives.
        tables: by name, (layers, values, rank) standard normals.
    """

    settings: FeedSettings
    formula: Formula
    attributes: dict[str, Integers] = field(repr=False)
    tags: Integers = field(repr=False)
    born: Integers = field(repr=False)
    life: Integers = field(repr=False)
    tables: dict[str, Floats] = field(repr=False)

    @cached_property
    def activity(self) -> npt.NDArray[np.float64]:
        """(users,) cumulative probability that a request comes from the user."""
        return np.cumsum(zipf(self.settings.users, _ZIPF_USERS))

    def today(self, day: int) -> Today:
        """The world on one day, counted from 0."""
        age = day - self.born
        items = np.flatnonzero((age >= 0) & (age < self.life)).astype(np.int32)
        rank = items % self.settings.new_items_a_day
        weight = (1.0 + rank) ** -_ZIPF_ITEMS * np.exp(-age[items] / _FRESHNESS_DAYS)
        popularity = np.cumsum(weight)
        tables = {}
        for part, _ in self.formula.parts():
            layers = self.tables[part.table]
            table = np.zeros((layers.shape[1] + 1, layers.shape[2]), np.float32)
            for layer, share in layers_on(part, day):
                table[:-1] += np.float32(share) * layers[layer]
            tables[part.table] = table
        return Today(items=items, popularity=popularity / popularity[-1], tables=tables)


def field_size(settings: FeedSettings, name: str) -> int:
    """How many values a field of the formula has."""
    items = (settings.days + LONGEST_LIFE - 1) * settings.new_items_a_day
    ids = {"user_id": settings.users, "item_id": items,
           "author_id": max(2, items // _ITEMS_PER_AUTHOR)}
    return ids[name] if name in ids else len(LEVELS[name])


def _table(settings: FeedSettings, part: Part, rank: int) -> Floats:
    shape = (num_layers(part, settings.days), field_size(settings, part.field), rank)
    drawn = generator(settings, "table", part.table).standard_normal(shape, np.float32)
    # A few draws do not average out by themselves, and the click rate would wander with the seed.
    if part.field in LEVELS:
        drawn -= drawn.mean(axis=1, keepdims=True)
    return -np.sort(-drawn, axis=1) if part.falls else drawn


def _tags(settings: FeedSettings, authors: Integers, favourites: Integers) -> Integers:
    """(items, 3): one to three tags, one cohort of items at a time to bound the memory."""
    size = len(LEVELS["tags"])
    likely = np.log(zipf(size, _ZIPF_TAGS))
    tags = np.empty((len(authors), _MOST_TAGS), np.int32)
    cohort = settings.new_items_a_day
    for number, start in enumerate(range(0, len(authors), cohort)):
        draw = generator(settings, "tags", number)
        mine = authors[start:start + cohort]
        # The largest of Gumbel-perturbed log weights are a draw without replacement.
        scores = draw.gumbel(size=(len(mine), size)) + likely
        scores[np.arange(len(mine)), favourites[mine]] += np.log(_AUTHORS_FAVOURITE)
        best = np.argsort(-scores, axis=1)[:, :_MOST_TAGS]
        count = draw.integers(1, _MOST_TAGS + 1, len(mine))
        best[np.arange(_MOST_TAGS) >= count[:, None]] = -1
        tags[start:start + cohort] = best
    return tags


def build_world(settings: FeedSettings) -> World:
    """Draw everybody and everything."""
    formula = formula_of(settings.regime)
    users = field_size(settings, "user_id")
    items = field_size(settings, "item_id")
    authors = field_size(settings, "author_id")

    def draw(name: str, size: int, shares: npt.NDArray[np.float64] | None = None) -> Integers:
        values = field_size(settings, name)
        chosen = generator(settings, name).choice(values, size, p=shares)
        return chosen.astype(np.int32)

    attributes = {
        "segment": draw("segment", users, zipf(len(LEVELS["segment"]), _ZIPF_SEGMENTS)),
        "gender": draw("gender", users, np.array([0.48, 0.48, 0.04])),
        "age": draw("age", users),
        "region": draw("region", users, zipf(len(LEVELS["region"]), 0.5)),
        "device": draw("device", users, np.array([0.5, 0.3, 0.1, 0.06, 0.04])),
        "network_mbps": draw("network_mbps", users),
        "author_id": draw("author_id", items, zipf(authors, 0.5)),
        "duration_seconds": draw("duration_seconds", items),
    }
    favourites = generator(settings, "favourite").integers(0, len(LEVELS["tags"]), authors)
    life = generator(settings, "life").integers(_SHORTEST_LIFE, LONGEST_LIFE + 1, items)
    born = np.arange(items) // settings.new_items_a_day - (LONGEST_LIFE - 1)
    return World(
        settings=settings, formula=formula, attributes=attributes,
        tags=_tags(settings, attributes["author_id"], favourites.astype(np.int32)),
        born=born.astype(np.int32), life=life.astype(np.int32),
        tables={part.table: _table(settings, part, rank) for part, rank in formula.parts()},
    )
