"""The true click probability, written once: the simulator draws from it, the reference fits it.

    logit = intercept + sum over terms of  scale / sqrt(rank) * sum_k prod_f sum_p w_p z_p[k]

A term is a product of factors, a factor a weighted sum of looked-up rows: z_p is the row of the
part's table at the part's field, averaged over the values of a multi-valued field. With one
factor of rank 1 that is an effect of single fields; with two it is a factorisation machine
(Rendle 2010), with three its third order. Entries of tables are standard normal: drawn by the
simulator, free parameters under a Gaussian prior in the fit.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

# Numbers below belong to a version and never change under it: results are compared across time.
VERSION = 1
REGIMES = ("additive", "pairwise", "third_order", "drifting")
# Of the drifting regime: after this many days what moves has become independent of what it was.
DRIFT_DAYS = 10
# The share of a moving table's variance that moves; the rest stays.
MOVING_SHARE = 0.5

Array = TypeVar("Array")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One looked-up row.

    Attributes:
        table: name of the table of standard normals, (layers, values of the field, rank).
        field: the field that says which row.
        weight: standard deviation of what the part adds to its factor.
        moves: from day to day.
        falls: the table is sorted, so that the effect falls from the first value to the last.
    """

    table: str
    field: str
    weight: float
    moves: bool = False
    falls: bool = False


@dataclass(frozen=True, kw_only=True)
class Term:
    """A product of factors, each a sum of parts."""

    factors: tuple[tuple[Part, ...], ...]
    rank: int = 1
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Formula:
    """What the logit of one regime is made of."""

    intercept: float
    terms: tuple[Term, ...]

    def parts(self) -> list[tuple[Part, int]]:
        """Every part with the rank of its term."""
        return [(part, term.rank) for term in self.terms for factor in term.factors
                for part in factor]

    def digest(self) -> str:
        """Hex digest of all its numbers."""
        numbers: dict[str, Any] = {"drift_days": DRIFT_DAYS, "moving_share": MOVING_SHARE}
        text = json.dumps({**asdict(self), **numbers}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def logits(self, take: Callable[[Part], Any], total: Callable[[Any], Any]) -> Any:
        """Evaluate the formula, in any library whose arrays know `+` and `*`.

        Args:
            take: the rows of a part, (rows, rank).
            total: the sum over the last axis.

        Returns:
            (rows,) logits.
        """
        logits = self.intercept
        for term in self.terms:
            product: Any = term.scale / math.sqrt(term.rank)
            for factor in term.factors:
                summed: Any = None
                for part in factor:
                    value = part.weight * take(part)
                    summed = value if summed is None else summed + value
                product = product * summed
            logits = logits + total(product)
        return logits


def _effect(field: str, weight: float, *, moves: bool = False, falls: bool = False) -> Term:
    part = Part(table=f"effect.{field}", field=field, weight=weight, moves=moves, falls=falls)
    return Term(factors=((part,),))


def _effects(*, moves: bool) -> tuple[Term, ...]:
    return (
        _effect("user_id", 0.25),
        _effect("segment", 0.20),
        _effect("gender", 0.10),
        _effect("age", 0.20),
        _effect("region", 0.10),
        _effect("item_id", 0.20, moves=moves),
        _effect("author_id", 0.20),
        _effect("tags", 0.45, moves=moves),
        _effect("duration_seconds", 0.30),
        _effect("item_age_days", 0.25, falls=True),
        _effect("position", 0.50, falls=True),
        _effect("hour", 0.15),
        _effect("weekday", 0.05),
        _effect("device", 0.15),
        _effect("network_mbps", 0.20),
        _effect("session_depth", 0.20),
    )


def _pairs(*, moves: bool) -> tuple[Term, ...]:
    taste = (
        Part(table="taste.segment", field="segment", weight=0.90, moves=moves),
        Part(table="taste.user_id", field="user_id", weight=0.40, moves=moves),
    )
    content = (
        Part(table="content.tags", field="tags", weight=1.0),
        Part(table="content.author_id", field="author_id", weight=0.3),
    )
    return (
        Term(factors=(taste, content), rank=4, scale=0.9),
        Term(factors=(
            (Part(table="mood.daypart", field="daypart", weight=1.0),),
            (Part(table="mood.tags", field="tags", weight=1.0),)), rank=3, scale=0.4),
        Term(factors=(
            (Part(table="screen.device", field="device", weight=1.0),),
            (Part(table="screen.duration", field="duration_seconds", weight=1.0),)),
            rank=2, scale=0.3),
    )


def _triples() -> tuple[Term, ...]:
    return (
        Term(factors=(
            (Part(table="habit.segment", field="segment", weight=1.0),),
            (Part(table="habit.tags", field="tags", weight=1.0),),
            (Part(table="habit.daypart", field="daypart", weight=1.0),)), rank=3, scale=0.8),
    )


def formula_of(regime: str) -> Formula:
    """The formula of one of `REGIMES`."""
    moves = regime == "drifting"
    terms = _effects(moves=moves)
    if regime != "additive":
        terms += _pairs(moves=moves)
    if regime == "third_order":
        terms += _triples()
    return Formula(intercept=-1.2, terms=terms)


def num_layers(part: Part, days: int) -> int:
    """Layers of a part's table: one, or a resting one and one for each knot in time."""
    return 2 + math.ceil((days - 1) / DRIFT_DAYS) if part.moves else 1


def layers_on(part: Part, day: int) -> list[tuple[int, float]]:
    """Which layers make a part's table on one day, as (layer, weight); squares sum to 1.

    Between two knots the weights turn from one to the other, so the spread of what moves is the
    same every day.
    """
    if not part.moves:
        return [(0, 1.0)]
    knot, passed = divmod(day, DRIFT_DAYS)
    angle = math.pi / 2 * passed / DRIFT_DAYS
    layers = [(0, math.sqrt(1 - MOVING_SHARE)),
              (1 + knot, math.sqrt(MOVING_SHARE) * math.cos(angle))]
    if passed:
        layers.append((2 + knot, math.sqrt(MOVING_SHARE) * math.sin(angle)))
    return layers
