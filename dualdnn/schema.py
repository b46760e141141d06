"""One schema drives everything: ingest checks, encoding, model inputs, serving signatures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dualdnn.errors import ConfigError

KINDS = ("id", "ids", "number")
_KINDS_OF_LATER_VERSIONS = ("hash", "vector", "sequence")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One feature of the model and the column of the lake that it is read from.

    Attributes:
        name: the column; also part of every sign, so renaming a field renames its ids.
        kind: `id` (one categorical value), `ids` (a list of them, average-pooled) or
            `number` (quantile buckets of the training part).
        side: who the feature describes: user, item or context.
        min_count: times an id must occur in the training part to get a row of its own.
        max_length: `ids` only: values kept per example, the first ones.
        buckets: `number` only: quantile buckets; one more is kept for missing values.
        label_statistic: built from labels (as the mean label of a user so far). Dropped under
            windows that do not follow time, where it would leak.
    """

    name: str
    kind: str
    side: str = "context"
    min_count: int = 1
    max_length: int = 1
    buckets: int = 20
    label_statistic: bool = False

    @property
    def width(self) -> int:
        """Cells that one example has in this field."""
        return self.max_length if self.kind == "ids" else 1

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        where = f"field `{self.name}`"
        if not _NAME.fullmatch(self.name):
            found.append(
                f"field name must be letters, digits and underscores, got {self.name!r}. "
                "Rename the column in the lake."
            )
        if self.kind in _KINDS_OF_LATER_VERSIONS:
            found.append(f"{where}: kind `{self.kind}` is not supported by this version; "
                         f"use one of {', '.join(KINDS)}.")
        elif self.kind not in KINDS:
            found.append(f"{where}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.side not in ("user", "item", "context"):
            found.append(f"{where}: side must be user, item or context, got {self.side!r}.")
        if self.min_count < 1:
            found.append(f"{where}: min_count must be >= 1, got {self.min_count}. "
                         "Use 1 to give every id of the training part a row.")
        if self.max_length < 1:
            found.append(f"{where}: max_length must be >= 1, got {self.max_length}.")
        if self.buckets < 2:
            found.append(f"{where}: buckets must be >= 2, got {self.buckets}.")
        return found


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of a log: what is predicted, when, for whom, and from which fields.

    Attributes:
        name: names the data set in reports and exported models.
        label: column of 0 and 1.
        timestamp: column of seconds since the epoch, UTC.
        group: column that grouped AUC groups by, or None.
        weight: column of sample weights >= 0, or None. Multiplies every loss alike.
        fields: in the order of the model's inputs.
    """

    name: str
    label: str
    timestamp: str
    fields: tuple[Field, ...]
    group: str | None = None
    weight: str | None = None

    @property
    def width(self) -> int:
        """Cells that one example has over all fields."""
        return sum(field.width for field in self.fields)

    @property
    def columns(self) -> list[str]:
        """Every column of the lake that the schema reads, each once, in a stable order."""
        named = [self.label, self.timestamp, self.group, self.weight]
        ordered = [c for c in named if c] + [field.name for field in self.fields]
        return list(dict.fromkeys(ordered))

    def hash(self) -> str:
        """Hex digest over all that changes what a row of the lake means to the model."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def without(self, names: set[str]) -> Schema:
        """The same schema without the named fields."""
        kept = tuple(field for field in self.fields if field.name not in names)
        return Schema(name=self.name, label=self.label, timestamp=self.timestamp,
                      group=self.group, weight=self.weight, fields=kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `schema_from_dict` takes them."""
        return asdict(self)


# Keys of the contract that later versions will honour: known, so that the message can say so.
_LATER_FIELD_KEYS = {"pii": False, "privileged": False, "position": False, "of": None,
                     "size": None, "cross": None, "table": None}
_LATER_SCHEMA_KEYS = {"tasks": None, "request": None, "sampling_rate": None}
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,), "kind": (str,), "side": (str,), "min_count": (int,), "max_length": (int,),
    "buckets": (int,), "label_statistic": (bool,),
}


def _field_from_dict(position: int, given: object, mistakes: list[str]) -> Field | None:
    if not isinstance(given, Mapping):
        mistakes.append(f"fields[{position}] must be a mapping with name and kind, got {given!r}.")
        return None
    values = dict(given)
    where = f"field `{values.get('name', f'at position {position}')}`"
    sound = True
    for key, neutral in _LATER_FIELD_KEYS.items():
        if values.pop(key, neutral) != neutral:
            mistakes.append(f"{where}: `{key}` is not supported by this version; remove it.")
    for key in sorted(set(values) - set(_TYPES), key=str):
        mistakes.append(f"{where}: unknown key `{key}`; known are {', '.join(_TYPES)}.")
        del values[key]
    for key in ("name", "kind"):
        if key not in values:
            mistakes.append(f"{where}: `{key}` is missing.")
            sound = False
    for key, value in values.items():
        right = isinstance(value, _TYPES[key]) and (bool in _TYPES[key]) == isinstance(value, bool)
        if not right:
            mistakes.append(f"{where}: `{key}` must be {_TYPES[key][0].__name__}, got {value!r}.")
            sound = False
    if not sound:
        return None
    field = Field(**values)
    mistakes.extend(field.mistakes())
    if field.kind == "ids" and "max_length" not in values:
        mistakes.append(f"{where}: kind ids needs max_length, the number of values to keep.")
    for key, kind in (("max_length", "ids"), ("buckets", "number")):
        if key in values and field.kind in KINDS and field.kind != kind:
            mistakes.append(f"{where}: `{key}` belongs to kind {kind}, not {field.kind}.")
    if "min_count" in values and field.kind == "number":
        mistakes.append(f"{where}: `min_count` belongs to kind id and ids, not number.")
    return field


def schema_from_dict(given: Mapping[str, Any]) -> Schema:
    """Build a schema from plain values, as read from YAML.

    Args:
        given: `name`, `label`, `timestamp`, `fields` and the optional keys of `Schema`.

    Raises:
        ConfigError: with every mistake at once: unknown keys, wrong types, values out of range,
            keys that this version does not support yet.
    """
    values = dict(given)
    mistakes: list[str] = []
    for key, neutral in _LATER_SCHEMA_KEYS.items():
        if values.pop(key, neutral) != neutral:
            mistakes.append(f"data.{key} is not supported by this version; set it to null.")
    if (zone := values.pop("timezone", "UTC")) != "UTC":
        mistakes.append(f"data.timezone must be UTC in this version, got {zone!r}.")
    known = {f.name for f in fields(Schema)}
    for key in sorted(set(values) - known, key=str):
        mistakes.append(f"data: unknown key `{key}`; known are {', '.join(sorted(known))}.")
    for key in ("name", "label", "timestamp", "group", "weight"):
        value = values.get(key)
        if value is None and key in ("group", "weight"):
            continue
        if not isinstance(value, str) or not value:
            mistakes.append(f"data.{key} must be a non-empty string, got {value!r}.")
        elif key == "name" and not _NAME.fullmatch(value):
            mistakes.append(f"data.name must be letters, digits and underscores, got {value!r}.")
    if isinstance(values.get("label"), str):
        for key in ("timestamp", "group", "weight"):
            if values.get(key) == values["label"]:
                mistakes.append(f"data.{key} is the label `{values['label']}`; it must be another "
                                "column.")
    given_fields = values.get("fields")
    parsed: list[Field] = []
    if not isinstance(given_fields, list | tuple) or not given_fields:
        mistakes.append(f"data.fields must be a list of at least one field, got {given_fields!r}.")
    else:
        for position, one in enumerate(given_fields):
            if field := _field_from_dict(position, one, mistakes):
                parsed.append(field)
    names = [field.name for field in parsed]
    for name in sorted({n for n in names if names.count(n) > 1}):
        mistakes.append(f"field `{name}` is listed {names.count(name)} times; list it once.")
    for key in ("label", "weight"):
        if values.get(key) in names:
            mistakes.append(f"data.{key} `{values[key]}` is also a field: the model would read it.")
    if mistakes:
        raise ConfigError(mistakes)
    return Schema(name=values["name"], label=values["label"], timestamp=values["timestamp"],
                  group=values.get("group"), weight=values.get("weight"), fields=tuple(parsed))
