"""Which of many students to serve: the frontier of AUC against latency, and a choice on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A student that could be served.

    Attributes:
        name: of the tower.
        latency: of a request, in any unit.
        parameters: dense ones.
        auc: on validation rows.
    """

    name: str
    latency: float
    parameters: int
    auc: float


def frontier(candidates: Sequence[Candidate]) -> list[str]:
    """Names of those that no other beats, from the fastest to the best.

    One is beaten by another that is at least as fast and at least as good, and not equal in both.
    """
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (one.latency, -one.auc)):
        equal = kept and (one.latency, one.auc) == (kept[-1].latency, kept[-1].auc)
        if not kept or one.auc > kept[-1].auc or equal:
            kept.append(one)
    return [one.name for one in kept]


def within(candidates: Sequence[Candidate], *, least_auc: float) -> list[Candidate]:
    """Those whose AUC is at least `least_auc`, the limit included; in the order given."""
    return [one for one in candidates if one.auc >= least_auc]


def smallest(candidates: Sequence[Candidate], *, latency_tolerance: float) -> Candidate | None:
    """The fastest; of those that are as fast within the noise, the one of fewest parameters.

    Args:
        candidates: those that are good enough.
        latency_tolerance: share by which a latency may exceed the lowest and still count as equal.

    Returns:
        None where there are none. Of equally many parameters the better one, then the first.

    Raises:
        ValueError: `latency_tolerance` < 0.
    """
    if latency_tolerance < 0:
        raise ValueError(f"latency_tolerance must be >= 0, got {latency_tolerance}.")
    if not candidates:
        return None
    limit = min(one.latency for one in candidates) * (1 + latency_tolerance)
    return min((one for one in candidates if one.latency <= limit),
               key=lambda one: (one.parameters, -one.auc))
