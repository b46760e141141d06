"""Does the student put the same rows on top as its teacher, request by request?

AUC compares with labels; this compares with the teacher: a student that is to replace it behind
the same retrieval and the same page should fill the page with the same items. Groups are requests,
or users where a log has no requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import sigmoid

TOP = 10

Floats = NDArray[np.float64]


def ranking_agreement(
    teacher: ArrayLike, student: ArrayLike, groups: ArrayLike, *, top: int = TOP
) -> dict[str, Any]:
    """Overlap of the first places, and NDCG of the student's order with the teacher's scores.

    Overlap: the share of the teacher's `top` rows of a group that are among the student's. Rows
    of equal score that the last places do not suffice for share them evenly: with 3 rows for 2
    places each is in by 2/3, and a row counts by the smaller of its two shares. So equal orders
    overlap by 1, with whatever ties, and a constant student by what chance would. Groups of
    `top` rows or fewer are all on the page whoever ranks them, and are left out.

    NDCG at `top`: a row's gain is the teacher's probability, the discount of place r is
    1 / log2(1 + r), and the sum over the student's first places is divided by that over the
    teacher's. Rows that the student ties have the mean gain of the tie (McSherry and Najork 2008,
    "Computing information retrieval performance measures efficiently in the presence of tied
    scores"); ties of the teacher need no rule, as their gains are equal. Groups of one row have
    no order and are left out. Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of
    IR techniques".

    Args:
        teacher: logits, shape `(rows,)`.
        student: logits, shape `(rows,)`.
        groups: one sortable value per row, shape `(rows,)`.
        top: places that count.

    Returns:
        `top_overlap` and `top_overlap_by_chance` (what a random order of the student would have)
        as means over `top_groups` groups of more than `top` rows, `ndcg` as the mean over
        `ndcg_groups` groups of more than one row. What has no group is absent.

    Raises:
        DataError: different shapes, logits not finite.
        ValueError: `top` < 1.
    """
    if top < 1:
        raise ValueError(f"top must be >= 1, got {top}.")
    first, second = (np.asarray(z, np.float64) for z in (teacher, student))
    given = np.asarray(groups)
    for name, values in (("student", second), ("groups", given)):
        if values.shape != first.shape or first.ndim != 1:
            raise DataError(f"{name} must have the shape of the teacher's logits, one value per "
                            f"row, got {values.shape} and {first.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("logits must be finite. Look for a diverged tower.")
    if not first.size:
        return {}
    _, group, rows = np.unique(given, return_inverse=True, return_counts=True)
    found: dict[str, Any] = {}
    large, several = rows > top, rows > 1
    if large.any():
        shared = np.minimum(_shares(first, group, rows, top), _shares(second, group, rows, top))
        overlap = np.bincount(group, shared) / top
        found |= {"top_overlap": float(overlap[large].mean()),
                  "top_overlap_by_chance": float((top / rows[large]).mean()),
                  "top_groups": int(large.sum())}
    if several.any():
        gains = sigmoid(first)
        ratio = _dcg(second, gains, group, rows, top) / _dcg(first, gains, group, rows, top)
        found |= {"ndcg": float(ratio[several].mean()), "ndcg_groups": int(several.sum())}
    return found


def _ties(scores: Floats, group: NDArray[np.int64], rows: NDArray[np.int64]
          ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows ordered by group and falling score, in runs of equal score.

    Returns:
        The order (n,), and by run where it starts in that order, how many rows it has, and how
        many of its group rank above it.
    """
    order = np.lexsort((-scores, group))
    z, of = scores[order], group[order]
    start = np.flatnonzero(np.r_[True, (z[1:] != z[:-1]) | (of[1:] != of[:-1])])
    size = np.diff(np.r_[start, z.size])
    first_of_group = np.cumsum(rows) - rows
    return order, start, size, start - first_of_group[of[start]]


def _shares(scores: Floats, group: NDArray[np.int64], rows: NDArray[np.int64],
            top: int) -> Floats:
    """(n,) by how much each row is among the first of its group."""
    order, _, size, above = _ties(scores, group, rows)
    shares = np.empty(scores.size)
    shares[order] = np.repeat(np.clip((top - above) / size, 0.0, 1.0), size)
    return shares


def _dcg(scores: Floats, gains: Floats, group: NDArray[np.int64], rows: NDArray[np.int64],
         top: int) -> Floats:
    """(groups,) discounted cumulative gain of the first places, the mean over orders of ties."""
    order, start, size, above = _ties(scores, group, rows)
    total = np.r_[0.0, np.cumsum(1 / np.log2(2 + np.arange(top)))]
    discount = total[np.minimum(above + size, top)] - total[np.minimum(above, top)]
    mean_gain = np.add.reduceat(gains[order], start) / size
    return np.bincount(group[order][start], mean_gain * discount).astype(np.float64)
