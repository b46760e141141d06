"""Encoded days whose signs a test writes down itself, so that rows can be checked by hand."""

import datetime
import json
from itertools import count

import numpy as np

from dualdnn.data.encoded_day import EncodedDay

FIRST_DAY = datetime.date(2024, 1, 1)
_NUMBERS = count()


def day_of(folder, number, **columns):
    """Write day number 1, 2, ... of a log and open it.

    Args:
        folder: any number of days, of the same date too, can be written into it.
        number: 1 for the first of January.
        columns: by field an array of float32, (rows,) or (rows, size), or a list with a sign,
            a list of signs or None for every row.
    """
    path = folder / f"encoded-{next(_NUMBERS)}"
    path.mkdir()
    sections, signs, counts = {}, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name, values in columns.items():
        if isinstance(values, np.ndarray):
            np.save(path / f"{'vectors' if values.ndim == 2 else 'numbers'}-{name}.npy", values)
            continue
        lists = [one if isinstance(one, list) else [one] for one in values]
        given = [sign for one in lists for sign in one if sign is not None]
        found, times = np.unique(np.array(given, np.int64), return_counts=True)
        cells = np.full((len(lists), max(1, *map(len, lists))), -1, np.int32)
        for row, one in enumerate(lists):
            known = [sign for sign in one if sign is not None]
            cells[row, :len(known)] = np.searchsorted(found, known)
            if not known:
                cells[row, 0] = len(found)
        start = sum(map(len, signs))
        sections[name] = [start, start + len(found)]
        signs.append(found)
        counts.append(times)
        np.save(path / f"cells-{name}.npy", cells)
    np.save(path / "signs.npy", np.concatenate(signs))
    np.save(path / "counts.npy", np.concatenate(counts))
    date = FIRST_DAY + datetime.timedelta(days=number - 1)
    rows = max(map(len, columns.values()))
    (path / "meta.json").write_text(json.dumps({"day": str(date), "rows": rows,
                                                "sections": sections}))
    return EncodedDay(path)


def owners(row_map):
    """The row of every sign."""
    return dict(zip(row_map.signs.tolist(), row_map.rows.tolist(), strict=True))


def seen_on(row_map):
    """The day number on which every sign was seen last."""
    first = int(np.datetime64(FIRST_DAY, "D").astype(int))
    return dict(zip(row_map.signs.tolist(), (row_map.last_seen - first + 1).tolist(), strict=True))
