"""The columns of a log: what is predicted, when, for whom, and from which fields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dualdnn.schema.field import Field

# The table of all fields that ask for nothing special.
MAIN_TABLE = "main"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One schema drives everything: ingest checks, encoding, model inputs, serving signatures.

    Attributes:
        name: names the data set in reports and exported models.
        label: column of 0 and 1.
        timestamp: column of seconds since the epoch, UTC.
        group: column that grouped AUC groups by, or None.
        weight: column of sample weights >= 0, or None. Multiplies every loss alike.
        sampling_rate: column of, or one, probability that a negative was kept; None where all
            were. Losses stay in the sampled space; what is served is corrected for it.
        fields: in the order of the model's inputs.
    """

    name: str
    label: str
    timestamp: str
    fields: tuple[Field, ...]
    group: str | None = None
    weight: str | None = None
    sampling_rate: str | float | None = None

    @property
    def width(self) -> int:
        """Cells that one example has over all fields."""
        return sum(field.width for field in self.fields)

    @property
    def dense_width(self) -> int:
        """Floats that one example has over all fields, beside its cells."""
        return sum(field.dense_width for field in self.fields)

    @property
    def rate_column(self) -> str | None:
        """The column of sampling rates, if they are one."""
        return self.sampling_rate if isinstance(self.sampling_rate, str) else None

    @property
    def columns(self) -> list[str]:
        """Every column of the lake that the schema reads, each once, in a stable order."""
        named = [self.label, self.timestamp, self.group, self.weight, self.rate_column,
                 *(field.column for field in self.fields)]
        return list(dict.fromkeys(column for column in named if column))

    @property
    def pii_columns(self) -> set[str]:
        """The columns whose values are replaced by pseudonyms."""
        return {field.column for field in self.fields if field.pii and field.column}

    @property
    def public(self) -> Schema:
        """What a student reads: the schema without its privileged fields."""
        return self.without({field.name for field in self.fields if field.privileged})

    def field(self, name: str) -> Field:
        """The field of that name.

        Raises:
            KeyError: there is none.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def cells(self, name: str) -> slice:
        """Where a field's cells stand among those of an example."""
        return self._place(name, [field.width for field in self.fields])

    def dense(self, name: str) -> slice:
        """Where a field's floats stand among those of an example."""
        return self._place(name, [field.dense_width for field in self.fields])

    def _place(self, name: str, widths: list[int]) -> slice:
        position = self.fields.index(self.field(name))
        start = sum(widths[:position])
        return slice(start, start + widths[position])

    def owner(self, field: Field) -> Field:
        """The field whose rows `field` uses: mostly itself."""
        return field if field.namespace == field.name else self.field(field.namespace)

    def table_name(self, field: Field) -> str:
        """The table that holds the rows of a field.

        Fields of one size share one. What only the teacher reads stands apart, so that it can be
        left out of what a student is served with.
        """
        owner = self.owner(field)
        if owner.file:
            return f"vectors_{owner.name}"
        sized = f"size{owner.size}" if owner.size and owner.kind != "vector" else ""
        parts = [part for part in ("privileged" if owner.privileged else "", sized) if part]
        return "_".join(parts) or MAIN_TABLE

    def tables(self) -> dict[str, list[Field]]:
        """The fields of every table, by its name, both in the order of the schema."""
        found: dict[str, list[Field]] = {}
        for field in self.fields:
            found.setdefault(self.table_name(field), []).append(field)
        return found

    def hash(self) -> str:
        """Hex digest over all that changes what a row of the lake means to the model."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def without(self, names: set[str]) -> Schema:
        """The same schema without the named fields and those that are made from them."""
        gone = set(names)
        for _ in self.fields:
            gone |= {field.name for field in self.fields
                     if gone & {field.namespace, field.key, *(field.cross or ())}}
        kept = tuple(field for field in self.fields if field.name not in gone)
        return dataclasses.replace(self, fields=kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `schema_from_dict` takes them."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {**values, "fields": [field.to_dict() for field in self.fields]}
