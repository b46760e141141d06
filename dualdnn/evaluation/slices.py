"""The metrics of a tower on parts of the data: new users, known items, the values of a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import evaluate_scores

Mask = NDArray[np.bool_]

# In brackets, since `other` is an honest value of many columns.
OTHER = "(other)"
MISSING = "(missing)"


@dataclass(frozen=True, kw_only=True)
class Categories:
    """One field's value per row, as codes into a list of values.

    Attributes:
        codes: integers, shape `(rows,)`, or `(rows, max_length)` for a field of several values;
            negative means no value (padding, missing).
        values: the text of code 0, 1, ...; each once.
    """

    codes: NDArray[np.integer]
    values: Sequence[str]


def category_masks(field: str, categories: Categories, *, max_values: int) -> dict[str, Mask]:
    """Masks `field=value` of the most frequent values, then `field=(other)`, `field=(missing)`.

    A row of a multi-valued field counts in the slice of each of its values; it is `(other)` if it
    has values and none of them is listed, `(missing)` if it has none. Slices without rows are
    left out.

    Args:
        field: name of the field, the first part of every slice's name.
        categories: codes of `rows` rows and their text.
        max_values: values with a slice of their own, by rows; ties go to the lower code.

    Raises:
        DataError: `max_values` < 1, a code without a value, a value listed twice.
    """
    if max_values < 1:
        raise DataError(f"max_values must be >= 1, got {max_values}. Leave `{field}` out of the "
                        "slices instead.")
    codes = np.asarray(categories.codes)
    # (rows, max_length), ascending in each row so that repeated values are neighbours
    codes = np.sort(codes.reshape(len(codes), -1), axis=1)
    values = [str(value) for value in categories.values]
    if codes.size and int(codes.max()) >= len(values):
        raise DataError(f"slice field `{field}`: code {int(codes.max())} has no value; expected "
                        f"codes below {len(values)}. Pass the text of every code.")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise DataError(f"slice field `{field}`: value {twice!r} has several codes; expected each "
                        "value once. Merge them before slicing.")
    repeated = np.zeros(codes.shape, dtype=bool)
    repeated[:, 1:] = codes[:, 1:] == codes[:, :-1]
    rows = np.bincount(codes[(codes >= 0) & ~repeated], minlength=len(values))
    listed = [int(c) for c in np.argsort(-rows, kind="stable")[:max_values] if rows[c]]
    masks = {f"{field}={values[code]}": (codes == code).any(axis=1) for code in listed}
    given = (codes >= 0).any(axis=1)
    masks[f"{field}={OTHER}"] = given & ~np.isin(codes, listed).any(axis=1)
    masks[f"{field}={MISSING}"] = ~given
    return {name: mask for name, mask in masks.items() if mask.any()}


def evaluate_slices(
    labels: ArrayLike,
    logits: ArrayLike,
    *,
    masks: Mapping[str, ArrayLike] | None = None,
    categories: Mapping[str, Categories] | None = None,
    max_values: int = 10,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> dict[str, dict[str, Any]]:
    """Metrics per slice, as `evaluate_scores` gives them, and the slice's `rows`.

    Args:
        labels: 0 or 1, shape `(rows,)`.
        logits: shape `(rows,)`.
        masks: slice name to booleans of shape `(rows,)`, such as `new_user`.
        categories: field name to its values; see `category_masks` for the slices' names.
        max_values: values of a field with a slice of their own; the rest is one slice.
        groups: one value per row for grouped AUC, or None.
        weights: sample weights, or None.

    Returns:
        Slice name to `{"rows": n, "auc": ..., ...}`: the masks in their order, then the fields. A
        mask that selects nothing stays, with 0 rows and no metrics.

    Raises:
        DataError: a mask or codes of another shape, codes without a value, two slices of one
            name, and what `evaluate_scores` raises.
    """
    y, z = np.asarray(labels), np.asarray(logits)
    g = None if groups is None else np.asarray(groups)
    w = None if weights is None else np.asarray(weights)
    chosen: dict[str, Mask] = {}
    for name, given in (masks or {}).items():
        mask = np.asarray(given)
        if mask.dtype != np.bool_ or mask.shape != y.shape:
            raise DataError(f"slice `{name}` must be booleans of shape {y.shape}, got "
                            f"{mask.dtype} of shape {mask.shape}. Pass one boolean per row.")
        chosen[name] = mask
    for field, one in (categories or {}).items():
        if len(one.codes) != len(y):
            raise DataError(f"slice field `{field}` must have {len(y)} rows like the labels, got "
                            f"{len(one.codes)}. Pass the codes of every row.")
        found = category_masks(field, one, max_values=max_values)
        if taken := sorted(set(found) & set(chosen)):
            raise DataError(f"slice `{taken[0]}` is given twice, as a mask and as a field's value. "
                            "Rename the mask.")
        chosen.update(found)
    return {
        name: {
            "rows": int(mask.sum()),
            **evaluate_scores(
                y[mask], z[mask],
                groups=None if g is None else g[mask],
                weights=None if w is None else w[mask],
            ),
        }
        for name, mask in chosen.items()
    }
