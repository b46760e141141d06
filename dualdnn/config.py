"""From plain values to frozen dataclasses, collecting every mistake on the way."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def _converted(value: Any, hint: Any, where: str, mistakes: list[str]) -> Any:
    """`value` as the type hint asks for, or a mistake."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None and len(options) < len(typing.get_args(hint)):
            return None
        return _converted(value, options[0], where, mistakes)
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return parse(hint, value, where, mistakes)
        expected = "a mapping"
    elif origin is Sequence or origin is tuple:
        if isinstance(value, Sequence) and not isinstance(value, str):
            arguments = typing.get_args(hint)
            return tuple(_converted(v, arguments[0], f"{where}[{i}]", mistakes)
                         for i, v in enumerate(value))
        expected = "a list"
    elif origin is Mapping:
        if isinstance(value, Mapping):
            of_values = typing.get_args(hint)[1]
            return {str(key): _converted(one, of_values, f"{where}.{key}", mistakes)
                    for key, one in value.items()}
        expected = "a mapping"
    elif hint is Any:
        return value
    elif hint is bool:
        if isinstance(value, bool):
            return value
        expected = "true or false"
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        expected = "a whole number"
    elif hint is float:
        # NaN would slip through every range check, since all its comparisons are false.
        if (isinstance(value, int | float) and not isinstance(value, bool)
                and math.isfinite(value)):
            return float(value)
        expected = "a finite number"
    elif hint is str:
        if isinstance(value, str):
            return value
        expected = "text"
    else:
        raise TypeError(f"{where}: no rule to read a {hint}")
    mistakes.append(f"{where} must be {expected}, got {value!r}.")
    return None


def parse(cls: type[T], values: Mapping[str, Any], where: str, mistakes: list[str]) -> T | None:
    """Build a dataclass of settings from plain values, as read from YAML.

    Args:
        cls: a dataclass of bool, int, float, str, sequences and mappings of these, such dataclasses
            and `Any`, which is left as it is.
        values: by field name; fields with a default may be left out.
        where: prefix that names the setting in messages, such as `training`.
        mistakes: receives unknown keys, missing keys and wrong types, one sentence each.

    Returns:
        the instance, or None if there was a mistake.
    """
    if not isinstance(values, Mapping):
        mistakes.append(f"{where} must be a mapping, got {values!r}.")
        return None
    before = len(mistakes)
    hints = typing.get_type_hints(cls)
    known = [f for f in fields(cls) if f.init]  # type: ignore[arg-type]
    names = [f.name for f in known]
    for key in values:
        if key not in names:
            mistakes.append(f"{where}.{key} is not known; known are {', '.join(names)}.")
    arguments = {}
    for one in known:
        if one.name in values:
            arguments[one.name] = _converted(values[one.name], hints[one.name],
                                             f"{where}.{one.name}", mistakes)
        elif one.default is MISSING and one.default_factory is MISSING:
            mistakes.append(f"{where}.{one.name} is missing.")
    return cls(**arguments) if len(mistakes) == before else None
