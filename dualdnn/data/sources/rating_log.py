"""From bare ratings to a click-like log: label, time of day, statistics of the past."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dualdnn.data.sources.past_statistics import (
    SECONDS_PER_DAY,
    feature_lag_mistake,
    past_statistics,
)
from dualdnn.errors import DataError

# 1990 to 2100. Milliseconds would land some ten thousand years later.
EARLIEST_SECOND = 631_152_000
LATEST_SECOND = 4_102_444_800
_FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0.


def rating_log_mistakes(
    *, feature_lag: object, label_threshold: object, lowest: int, highest: int
) -> list[str]:
    """What is wrong with the two settings of a rating log, one sentence each.

    Args:
        feature_lag: see `past_statistics`.
        label_threshold: the lowest rating that is a positive.
        lowest: the lowest rating of the scale; as a threshold it would make every label 1.
        highest: the highest rating of the scale.
    """
    found = []
    if mistake := feature_lag_mistake(feature_lag):
        found.append(mistake)
    whole = isinstance(label_threshold, int) and not isinstance(label_threshold, bool)
    if not whole or not lowest < label_threshold <= highest:  # type: ignore[operator]
        found.append(
            f"label_threshold must be a whole number from {lowest + 1} to {highest}, "
            f"got {label_threshold!r}. Ratings from the threshold on are labelled 1."
        )
    return found


def rating_log(
    *,
    users: npt.NDArray[np.int64],
    items: npt.NDArray[np.int64],
    ratings: npt.NDArray[np.int64],
    timestamps: npt.NDArray[np.int64],
    feature_lag: str,
    label_threshold: int,
) -> dict[str, pa.Array]:
    """The columns that every rating log has beside its ids and descriptions.

    Args:
        users: (num_rows,) user ids.
        items: (num_rows,) item ids.
        ratings: (num_rows,) whole ratings. They end here: as a column they would be the label.
        timestamps: (num_rows,) seconds since the epoch, UTC.
        feature_lag: see `past_statistics`.
        label_threshold: the lowest rating that is a positive.

    Returns:
        Arrays of shape (num_rows,) in the order of the input: `hour` (0 to 23) and `weekday`
        (Monday is 0) in UTC, `timestamp`, `label`, `user_count`, `item_count`,
        `user_mean_label`, `item_mean_label` (null where the count is 0).

    Raises:
        DataError: there are no rows.
        ConfigError: `feature_lag` is neither `1d` nor `0`.
    """
    if len(ratings) == 0:
        raise DataError("Expected at least one rating, got none. Use the complete raw files.")
    labels = (ratings >= label_threshold).astype(np.int8)
    days = timestamps // SECONDS_PER_DAY
    counts, means = {}, {}
    for name, keys in (("user", users), ("item", items)):
        counts[name], means[name] = past_statistics(
            keys=keys, labels=labels, timestamps=timestamps, feature_lag=feature_lag)
    return {
        "hour": pa.array((timestamps % SECONDS_PER_DAY // 3600).astype(np.int8)),
        "weekday": pa.array(((days + _FIRST_WEEKDAY) % 7).astype(np.int8)),
        "timestamp": pa.array(timestamps),
        "label": pa.array(labels),
        "user_count": pa.array(counts["user"]),
        "item_count": pa.array(counts["item"]),
        "user_mean_label": pa.array(means["user"], from_pandas=True),
        "item_mean_label": pa.array(means["item"], from_pandas=True),
    }
