"""One feature of the model: its kind, its column, whose rows it uses."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

KINDS = ("id", "ids", "number", "hash", "sequence", "vector")
SCALES = ("quantile", "log")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Rows are int32, and every other field needs some as well.
_MOST_BUCKETS = 2**30
# Values of a list, floats of a vector: beyond it a typo is likelier than a plan.
_LONGEST = 2**16
# Keys that mean something for some kinds only.
KINDS_OF_KEY: dict[str, tuple[str, ...]] = {
    "min_count": ("id", "ids"), "max_length": ("ids", "sequence"), "buckets": ("number", "hash"),
    "scale": ("number",), "direct": ("number",), "size": ("id", "ids", "hash", "vector"),
    "of": ("sequence",), "table": ("id", "ids"), "cross": ("id", "hash"), "file": ("vector",),
    "key": ("vector",), "frozen": ("vector",), "pii": ("id", "ids", "hash", "sequence"),
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One feature of the model and the column of the lake that it is read from.

    Attributes:
        name: the column; also part of every sign, so renaming a field renames its ids.
        kind: `id` (one categorical value), `ids` (a list of them, average-pooled), `number`,
            `hash` (as `id`, but the row is the sign modulo `buckets`: nothing to admit),
            `sequence` (a list, newest first, average-pooled, with the rows of the field `of`) or
            `vector` (a pre-computed embedding: a column, or a file of vectors by id).
        side: who the feature describes: user, item or context.
        min_count: times an id must occur in the training part to get a row of its own.
        max_length: `ids` and `sequence`: values kept per example, the first ones.
        buckets: of a `number`, one more being kept for missing values; rows of a `hash`.
        scale: `number` only: buckets at quantiles of the training part, or evenly spaced in
            sign(x) log(1 + |x|) between its smallest and largest value (`log`).
        direct: `number` only: one learned row times the normalised value, instead of buckets.
        size: floats a row, where it differs from the embedding's: rows of one size share a table
            and are projected by a matrix a field (Ginart et al. 2019, arXiv:1909.11810). Of a
            `vector` column, the length of its lists.
        of: `sequence` only: the field whose rows and signs it shares.
        table: `id` and `ids`: the field whose rows and signs it shares.
        cross: `id` and `hash`: the two fields whose pair of values is the value; no column.
        file: `vector` only: a parquet file with the columns `key` and `vector`, or an .npz of
            arrays of these names.
        key: with `file`: the field whose value is looked up in it.
        frozen: with `file`: the vectors stay as they are in the file.
        privileged: read by the teacher alone; students are served without it.
        pii: values are personal: they are replaced by keyed pseudonyms before anything else.
        label_statistic: built from labels (as the mean label of a user so far). Dropped under
            windows that do not follow time, where it would leak.
    """

    name: str
    kind: str
    side: str = "context"
    min_count: int = 1
    max_length: int = 1
    buckets: int = 20
    scale: str = "quantile"
    direct: bool = False
    size: int | None = None
    of: str | None = None
    table: str | None = None
    cross: tuple[str, ...] | None = None
    file: str | None = None
    key: str | None = None
    frozen: bool = False
    privileged: bool = False
    pii: bool = False
    label_statistic: bool = False

    @property
    def width(self) -> int:
        """Cells that one example has in this field."""
        return self.max_length if self.is_list else 1

    @property
    def dense_width(self) -> int:
        """Floats that one example has in this field, beside its cells."""
        if self.is_vector_column:
            return self.size or 0
        return 1 if self.direct else 0

    @property
    def column(self) -> str | None:
        """The column of the lake and the input of the serving signature; None for a cross."""
        return None if self.cross else self.key or self.name

    @property
    def namespace(self) -> str:
        """The field name that goes into the sign: its own, or that of the owner of its rows."""
        return self.of or self.table or self.name

    @property
    def is_list(self) -> bool:
        """Has one example several values?"""
        return self.kind in ("ids", "sequence")

    @property
    def is_vector_column(self) -> bool:
        """Is it a column of vectors, rather than a file of them?"""
        return self.kind == "vector" and self.file is None

    @property
    def is_categorical(self) -> bool:
        """Are its values signs?"""
        return self.kind != "number" and not self.is_vector_column

    @property
    def is_admitted(self) -> bool:
        """Do the training part's values of this field decide who gets a row?"""
        return self.kind in ("id", "ids", "sequence")

    def to_dict(self) -> dict[str, Any]:
        """Name, kind and every value that is not the default, as plain values."""
        kept = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            needed = one.name in ("name", "kind") or (one.name == "max_length" and self.is_list)
            if needed or value != one.default:
                kept[one.name] = list(value) if isinstance(value, tuple) else value
        return kept

    def mistakes(self) -> list[str]:
        """What is wrong with the field by itself, one sentence each."""
        found = []
        where = f"field `{self.name}`"
        if not NAME.fullmatch(self.name):
            found.append(
                f"field name must be letters, digits and underscores, got {self.name!r}. "
                "Rename the column in the lake."
            )
        if self.kind not in KINDS:
            found.append(f"{where}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.side not in ("user", "item", "context"):
            found.append(f"{where}: side must be user, item or context, got {self.side!r}.")
        if self.min_count < 1:
            found.append(f"{where}: min_count must be >= 1, got {self.min_count}. "
                         "Use 1 to give every id of the training part a row.")
        if not 1 <= self.max_length <= _LONGEST:
            found.append(f"{where}: max_length must be >= 1"
                         + (f" and <= {_LONGEST}" if self.max_length > 1 else "")
                         + f", got {self.max_length}.")
        if not 2 <= self.buckets <= _MOST_BUCKETS:
            found.append(f"{where}: buckets must be >= 2"
                         + (f" and <= {_MOST_BUCKETS}" if self.buckets > 2 else "")
                         + f", got {self.buckets}.")
        if self.scale not in SCALES:
            found.append(f"{where}: scale must be one of {', '.join(SCALES)}, got {self.scale!r}.")
        if self.size is not None and not 1 <= self.size <= _LONGEST:
            found.append(f"{where}: size must be >= 1"
                         + (f" and <= {_LONGEST}" if self.size > 1 else "")
                         + f", got {self.size}.")
        if self.kind == "sequence" and self.of is None:
            found.append(f"{where}: kind sequence needs of, the field whose rows it shares.")
        if self.kind == "vector":
            found.extend(self._vector_mistakes(where))
        return found

    def _vector_mistakes(self, where: str) -> list[str]:
        if (self.file is None) != (self.key is None):
            return [f"{where}: file and key belong together: the file of vectors and the field "
                    "whose value is looked up in it. Give both, or size for a column of vectors."]
        if self.file is not None and self.size is not None:
            return [f"{where}: the file says how long its vectors are; remove size."]
        if self.file is None and self.size is None:
            return [f"{where}: kind vector needs size, the length of the column's lists, or file "
                    "and key."]
        if self.file is None and self.frozen:
            return [f"{where}: frozen belongs to vectors of a file; a column is never learned."]
        return []
