"""Golden requests: stored requests whose answers are known well enough to be checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualdnn.errors import ConfigError

_KEYS = {"name", "request", "low", "high"}


@dataclass(frozen=True, kw_only=True)
class GoldenRequest:
    """A request and the band that its answer must lie in.

    Attributes:
        name: for messages.
        request: field name to value or list of values, as the server gets it.
        low: least probability.
        high: largest probability.
    """

    name: str
    request: Mapping[str, Any]
    low: float
    high: float

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        if 0 <= self.low <= self.high <= 1:
            return []
        return [f"golden request `{self.name}` needs 0 <= low <= high <= 1, got low {self.low:g} "
                f"and high {self.high:g}."]


def read_golden_requests(path: Path) -> list[GoldenRequest]:
    """Read a JSON list of `{"name": ..., "request": {...}, "low": 0.1, "high": 0.4}`.

    Raises:
        ConfigError: with every mistake at once.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the golden requests in {path} cannot be read: {error}. Write a JSON "
                          "list of requests.") from error
    if not isinstance(given, list):
        raise ConfigError(f"{path} must hold a JSON list of golden requests, got a "
                          f"{type(given).__name__}.")
    mistakes: list[str] = []
    found: list[GoldenRequest] = []
    for position, one in enumerate(given):
        where = f"{path}, request {position}"
        if not isinstance(one, Mapping) or set(one) != _KEYS:
            keys = sorted(map(str, one)) if isinstance(one, Mapping) else one
            mistakes.append(f"{where} must have the keys {', '.join(sorted(_KEYS))}, got {keys}.")
        elif not isinstance(one["name"], str) or not isinstance(one["request"], Mapping):
            mistakes.append(f"{where}: name must be text and request a mapping.")
        elif not all(_is_number(one[key]) for key in ("low", "high")):
            mistakes.append(f"{where}: low and high must be numbers, got {one['low']!r} and "
                            f"{one['high']!r}.")
        else:
            found.append(GoldenRequest(**one))
            mistakes += found[-1].mistakes()
    names = [one.name for one in found]
    mistakes += [f"{path}: two golden requests are named `{name}`."
                 for name in sorted(set(names)) if names.count(name) > 1]
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
