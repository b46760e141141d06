"""Statistics of the past: what was known about a user or an item before a row happened."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualdnn.errors import ConfigError

SECONDS_PER_DAY = 86_400
FEATURE_LAGS = ("1d", "0")


def feature_lag_mistake(feature_lag: object) -> str | None:
    """What is wrong with a `feature_lag`, in one sentence, or None.

    The integer 0 counts as "0": that is what YAML and the command line make of it.
    """
    if isinstance(feature_lag, bool) or str(feature_lag) not in FEATURE_LAGS:
        return (
            f"feature_lag must be one of {', '.join(FEATURE_LAGS)}, got {feature_lag!r}. "
            "Use 1d for what was known at the end of the previous day, "
            "0 for every row with an earlier timestamp."
        )
    return None


def past_statistics(
    *,
    keys: npt.NDArray[np.int64],
    labels: npt.NDArray[np.integer],
    timestamps: npt.NDArray[np.int64],
    feature_lag: str,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Count and mean label of the earlier rows that share a row's key.

    Rows that are equally old see nothing of each other, so the order of the input does not
    matter, and no row sees its own label.

    Args:
        keys: (num_rows,) who the statistics are about, such as the user id.
        labels: (num_rows,) 0 and 1.
        timestamps: (num_rows,) seconds since the epoch, UTC.
        feature_lag: `1d`: only rows of earlier UTC days count. `0`: every row with a strictly
            earlier timestamp counts, which assumes a real-time feature store.

    Returns:
        Two arrays of shape (num_rows,): the count, and the mean label (NaN where the count is 0).

    Raises:
        ConfigError: `feature_lag` is neither `1d` nor `0`.
    """
    if mistake := feature_lag_mistake(feature_lag):
        raise ConfigError(mistake)
    num_rows = len(keys)
    if num_rows == 0:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    periods = timestamps // SECONDS_PER_DAY if str(feature_lag) == "1d" else timestamps
    order = np.lexsort((periods, keys))
    sorted_keys, sorted_periods = keys[order], periods[order]

    # A row may look at the sorted rows from the first one of its key up to, and without,
    # the first one of its own period.
    new_key = np.concatenate(([True], sorted_keys[1:] != sorted_keys[:-1]))
    new_period = new_key | np.concatenate(([True], sorted_periods[1:] != sorted_periods[:-1]))
    positions = np.arange(num_rows)
    first_of_key = np.maximum.accumulate(np.where(new_key, positions, 0))
    first_of_period = np.maximum.accumulate(np.where(new_period, positions, 0))

    # Sums of integers are exact in any order: a float sum would depend on the order of ties.
    sums = np.concatenate(([0], np.cumsum(labels[order].astype(np.int64))))
    counts = first_of_period - first_of_key
    positives = sums[first_of_period] - sums[first_of_key]
    means = np.full(num_rows, np.nan)
    np.divide(positives, counts, out=means, where=counts > 0)

    count_column = np.empty(num_rows, np.float32)
    mean_column = np.empty(num_rows, np.float32)
    count_column[order] = counts
    mean_column[order] = means
    return count_column, mean_column
