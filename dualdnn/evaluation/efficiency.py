"""Distillation efficiency over seeds: what share of the way from alone to the teacher is won."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dualdnn.evaluation.paired import Resampled, paired_difference

# Below this many standard errors of teacher - alone, a share of it means nothing.
LEAST_HEADROOM = 3.0
_STEPS = 40


def efficiency(student: Resampled, teacher: Resampled, alone: Resampled, *,
               level: float = 0.95) -> dict[str, float] | None:
    """(student - alone) / (teacher - alone), a ratio of means over seeds, with an interval.

    A share r is inside the interval where the student cannot be told from the mixture that lies at
    r between alone and teacher, by the bootstrap over groups crossed with seeds (Fieller 1954,
    "Some problems in interval estimation"): unlike quantiles of a ratio that is drawn anew, it
    stays right where the denominator is uncertain too.

    Args:
        student: a metric of it, its seeds being those of both others.
        teacher: of the teacher.
        alone: of the same student without a teacher.
        level: of the interval.

    Returns:
        `value`, and `low` and `high` where the interval is bounded; None where teacher - alone is
        not above three of its standard errors, or no error is known.

    Raises:
        DataError: the three were measured on different rows.
        ValueError: `level` outside (0, 1), different numbers of seeds.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    headroom = paired_difference(teacher, alone)
    if headroom.error is None or headroom.value <= LEAST_HEADROOM * headroom.error:
        return None
    value = paired_difference(student, alone).value / headroom.value

    def told_apart(share: float) -> bool:
        mixture = replace(alone, values=(1 - share) * alone.values + share * teacher.values,
                          draws=(1 - share) * alone.draws + share * teacher.draws)
        p = paired_difference(student, mixture).p_value()
        return p is not None and p < 1 - level

    low, high = (_limit(told_apart, value, direction) for direction in (-1.0, 1.0))
    if low is None or high is None:
        return {"value": value}
    return {"value": value, "low": low, "high": high}


def _limit(outside: Callable[[float], bool], start: float, direction: float) -> float | None:
    """Where, going from `start`, the outside begins; None where it does not."""
    reach = 1e-3
    while not outside(start + direction * reach):
        reach *= 2
        if reach > 1e3:
            return None
    inside = 0.0
    for _ in range(_STEPS):
        middle = (inside + reach) / 2
        inside, reach = (inside, middle) if outside(start + direction * middle) else (middle, reach)
    return start + direction * reach
