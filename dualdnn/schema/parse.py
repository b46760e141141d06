"""From plain values, as read from YAML, to a checked schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dualdnn.errors import ConfigError
from dualdnn.schema.field import KINDS, KINDS_OF_KEY, NAME, Field
from dualdnn.schema.relations import relation_mistakes
from dualdnn.schema.schema import Schema

# Keys of the contract that later versions will honour: known, so that the message can say so.
_LATER_FIELD_KEYS = {"position": False}
_LATER_SCHEMA_KEYS = {"tasks": None, "request": None}
_TYPES: dict[str, type] = {
    "name": str, "kind": str, "side": str, "min_count": int, "max_length": int, "buckets": int,
    "scale": str, "direct": bool, "size": int, "of": str, "table": str, "cross": list,
    "file": str, "key": str, "frozen": bool, "privileged": bool, "pii": bool,
    "label_statistic": bool,
}
_NULLABLE = ("size", "of", "table", "cross", "file", "key")
_COLUMNS = ("label", "timestamp", "group", "weight")
_OPTIONAL_COLUMNS = ("group", "weight")


def _has_type(key: str, value: object) -> bool:
    if key == "cross":
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    wanted = _TYPES[key]
    return isinstance(value, wanted) and (wanted is bool) == isinstance(value, bool)


def _listed(kinds: tuple[str, ...]) -> str:
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"


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
    for key in _NULLABLE:
        if values.get(key, 0) is None:
            del values[key]
    for key in sorted(set(values) - set(_TYPES), key=str):
        mistakes.append(f"{where}: unknown key `{key}`; known are {', '.join(_TYPES)}.")
        del values[key]
    for key in ("name", "kind"):
        if key not in values:
            mistakes.append(f"{where}: `{key}` is missing.")
            sound = False
    for key, value in values.items():
        if not _has_type(key, value):
            wanted = "a list of two field names" if key == "cross" else _TYPES[key].__name__
            mistakes.append(f"{where}: `{key}` must be {wanted}, got {value!r}.")
            sound = False
    if not sound:
        return None
    if "cross" in values:
        values["cross"] = tuple(values["cross"])
    field = Field(**values)
    mistakes.extend(field.mistakes())
    if field.kind in KINDS:
        mistakes.extend(_key_mistakes(where, field, values))
    return field


def _key_mistakes(where: str, field: Field, values: Mapping[str, Any]) -> list[str]:
    """Keys that the kind does not know, and those that it cannot do without."""
    found = []
    if field.is_list and "max_length" not in values:
        found.append(f"{where}: kind {field.kind} needs max_length, the number of values to keep.")
    if field.kind == "hash" and "buckets" not in values:
        found.append(f"{where}: kind hash needs buckets, the number of its rows.")
    for key, kinds in KINDS_OF_KEY.items():
        # A switch that is off says nothing.
        if key in values and values[key] is not False and field.kind not in kinds:
            found.append(f"{where}: `{key}` belongs to kind {_listed(kinds)}, not {field.kind}.")
    if field.direct and "buckets" in values:
        found.append(f"{where}: a direct number has one row and no buckets; remove buckets.")
    return found


def schema_from_dict(given: Mapping[str, Any]) -> Schema:
    """Build a schema from plain values, as read from YAML.

    Args:
        given: `name`, `label`, `timestamp`, `fields` and the optional keys of `Schema`.

    Raises:
        ConfigError: with every mistake at once: unknown keys, wrong types, values out of range,
            fields that do not fit each other, keys that this version does not support yet.
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
    rate = values.get("sampling_rate")
    if isinstance(rate, int) and not isinstance(rate, bool):
        rate = float(rate)
    _check_columns(values, rate, mistakes)
    parsed = _fields(values, rate, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return Schema(name=values["name"], label=values["label"], timestamp=values["timestamp"],
                  group=values.get("group"), weight=values.get("weight"), sampling_rate=rate,
                  fields=tuple(parsed))


def _check_columns(values: Mapping[str, Any], rate: object, mistakes: list[str]) -> None:
    """The columns that are no fields."""
    for key in ("name", *_COLUMNS):
        value = values.get(key)
        if value is None and key in _OPTIONAL_COLUMNS:
            continue
        if not isinstance(value, str) or not value:
            mistakes.append(f"data.{key} must be a non-empty string, got {value!r}.")
        elif key == "name" and not NAME.fullmatch(value):
            mistakes.append(f"data.name must be letters, digits and underscores, got {value!r}.")
    named = isinstance(rate, str) and rate != ""
    if rate is not None and not named and not (isinstance(rate, float) and 0 < rate <= 1):
        mistakes.append("data.sampling_rate must be a column or a number in (0, 1], the "
                        f"probability that a negative was kept, got {rate!r}.")
    if isinstance(values.get("label"), str):
        for key in ("timestamp", "group", "weight", "sampling_rate"):
            if values.get(key) == values["label"]:
                mistakes.append(f"data.{key} is the label `{values['label']}`; it must be another "
                                "column.")


def _fields(values: Mapping[str, Any], rate: object, mistakes: list[str]) -> list[Field]:
    given_fields = values.get("fields")
    parsed: list[Field] = []
    if not isinstance(given_fields, list | tuple) or not given_fields:
        mistakes.append(f"data.fields must be a list of at least one field, got {given_fields!r}.")
        return parsed
    before = len(mistakes)
    for position, one in enumerate(given_fields):
        if field := _field_from_dict(position, one, mistakes):
            parsed.append(field)
    names = [field.name for field in parsed]
    for name in sorted({n for n in names if names.count(n) > 1}):
        mistakes.append(f"field `{name}` is listed {names.count(name)} times; list it once.")
    for key in ("label", "weight", "sampling_rate"):
        if values.get(key) in names:
            mistakes.append(f"data.{key} `{values[key]}` is also a field: the model would read it.")
    # A field that is broken by itself would be reported again by all that refer to it.
    if len(mistakes) == before:
        mistakes.extend(relation_mistakes(parsed))
    return parsed
