"""Hour and weekday of timestamps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dualdnn.data.sources.past_statistics import SECONDS_PER_DAY

_FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0.


def hour_and_weekday(
    timestamps: npt.NDArray[np.int64], *, hours_east: int = 0
) -> dict[str, pa.Array]:
    """The columns `hour` (0 to 23) and `weekday` (Monday is 0).

    Args:
        timestamps: (num_rows,) seconds since the epoch, UTC.
        hours_east: of Greenwich, where the clock of the columns hangs.
    """
    local = timestamps + 3600 * hours_east
    return {
        "hour": pa.array((local % SECONDS_PER_DAY // 3600).astype(np.int8)),
        "weekday": pa.array(((local // SECONDS_PER_DAY + _FIRST_WEEKDAY) % 7).astype(np.int8)),
    }
