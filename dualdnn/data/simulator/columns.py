"""Value numbers to what the lake holds, and back."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dualdnn.data.simulator.world import LEVELS, Integers

# Their value numbers stand in the lake as they are.
IDS = ("user_id", "item_id", "author_id")


@cache
def _levels(name: str) -> pa.Array:
    levels = LEVELS[name]
    return pa.array(levels, pa.string() if isinstance(levels[0], str) else pa.int16())


def column_of(name: str, cells: Integers) -> pa.Array:
    """A column of the lake.

    Args:
        name: of the field.
        cells: (rows,) value numbers, or (rows, values) padded with -1 at the end.
    """
    if name in IDS:
        return pa.array(cells)
    levels = _levels(name)
    if cells.ndim == 2:
        there = cells >= 0
        offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), levels.take(pa.array(cells[there])))
    if pa.types.is_string(levels.type):
        return pa.DictionaryArray.from_arrays(pa.array(cells), levels)
    return levels.take(pa.array(cells))


def cells_of(name: str, column: pa.ChunkedArray) -> Integers:
    """The value numbers behind a column of the lake: the inverse of `column_of`.

    Returns:
        (rows,), or (rows, most values of a row) padded with -1 at the end.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if name in IDS:
        return array.to_numpy().astype(np.int32)
    if not pa.types.is_list(array.type):
        values = array.cast(_levels(name).type)
        return pc.index_in(values, _levels(name)).to_numpy().astype(np.int32)
    lengths = pc.list_value_length(array).to_numpy()
    column_of_value = np.arange(lengths.max(initial=0))
    cells = np.full((len(array), len(column_of_value)), -1, np.int32)
    cells[column_of_value < lengths[:, None]] = pc.index_in(array.flatten(), _levels(name))
    return cells
