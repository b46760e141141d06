"""One encoded day on disk, memory-mapped."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dualdnn.storage import sha256_of_file

FORMAT = 3
META_FILE = "meta.json"


def contents_of(folder: Path) -> dict[str, str]:
    """File → hex digest of everything in an encoded day but its meta file."""
    return {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())
            if path.name != META_FILE}


def fingerprint_of(rows: int, sections: Mapping[str, Sequence[int]],
                   contents: Mapping[str, str]) -> str:
    """Hex digest of all that training reads; texts, which only reports read, are left out."""
    arrays = {name: digest for name, digest in contents.items() if name.endswith(".npy")}
    text = json.dumps([rows, sections, arrays], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EncodedDay:
    """One day on disk: per categorical field its unique signs and an index per cell.

    Attributes:
        path: the folder.
    """

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Day, rows, fingerprint, source files, and the section of `signs` of each field."""
        return json.loads((self.path / META_FILE).read_text(encoding="utf-8"))

    def is_whole(self) -> bool:
        """Is it what was written: no file lost or changed since, and of this version's format?"""
        try:
            meta = self.meta
            found = fingerprint_of(meta["rows"], meta["sections"], meta["contents"])
            return bool(meta["format"] == FORMAT and meta["fingerprint"] == found
                        and self.path.name == f"dt={meta['day']}"
                        and meta["contents"] == contents_of(self.path))
        # Whatever is wrong with it, the day can be encoded again.
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    @property
    def day(self) -> datetime.date:
        """The UTC day of the partition."""
        return datetime.date.fromisoformat(self.meta["day"])

    @property
    def rows(self) -> int:
        """Number of examples."""
        return self.meta["rows"]

    def array(self, name: str) -> np.ndarray:
        """Memory-map one array.

        `labels` (rows,) uint8; `timestamps` (rows,) int64; `groups` (rows,) int64 signs;
        `weights` and `rates` (rows,) float32; `signs` and `counts` (unique signs,) int64.
        """
        return np.load(self.path / f"{name}.npy", mmap_mode="r")

    def values(self) -> list[str]:
        """The text behind each entry of `signs`, for reports; "" in fields with `pii`."""
        return pq.read_table(self.path / "values.parquet")["value"].to_pylist()

    @property
    def categorical(self) -> list[str]:
        """The categorical fields, in the order of their sections."""
        return list(self.meta["sections"])

    def section(self, field: str) -> slice:
        """Where a categorical field's signs stand in `signs`."""
        return slice(*self.meta["sections"][field])

    def local_cells(self, field: str) -> np.ndarray:
        """Memory-map (rows, field width) int32 indices into the field's own section.

        The section's length stands for a missing value, -1 for padding.
        """
        return self.array(f"cells-{field}")

    def cells(self, field: str) -> np.ndarray:
        """(rows, field width) int32 cells of one categorical field.

        A cell holds an index into `signs`, or `len(signs) + f` where categorical field number f
        is missing, or -1 for padding of a multi-valued field.
        """
        section = self.section(field)
        local = self.local_cells(field)
        missing = self.meta["sections"][self.categorical[-1]][1] + self.categorical.index(field)
        return np.where(local < 0, -1, np.where(local == section.stop - section.start, missing,
                                                local + section.start)).astype(np.int32)

    def numbers(self, field: str) -> np.ndarray:
        """(rows,) float32 values of one number field, NaN where missing."""
        return self.array(f"numbers-{field}")

    def vectors(self, field: str) -> np.ndarray:
        """(rows, size) float32 values of one vector column, NaN where missing."""
        return self.array(f"vectors-{field}")
