"""Weights and temperatures that change while a student trains: pure functions of its progress.

Progress is the share of its own planned steps that a student has taken, 0 before the first. A
student that stops early has not run through the whole of its schedules.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

# By shape the values that it has.
SHAPES: Mapping[str, tuple[str, ...]] = {
    "constant": (),
    "warm_up": ("start",),
    "linear": ("start", "end", "initial", "final"),
    "cosine": ("start", "end", "initial", "final"),
    "stop": ("end",),
}
_NEEDED = {"warm_up": "start", "stop": "end"}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A factor over a student's progress.

    `constant` is 1. `warm_up` is 0 until `start` and 1 from there on: the teacher warms up before
    it is listened to. `stop` is 1 until `end` and 0 from there on. `linear` goes from `initial` at
    `start` to `final` at `end` in a straight line, `cosine` in half a wave; before and after they
    stay as they are there.

    Attributes:
        shape: one of `SHAPES`.
        start: in [0, 1); of a ramp 0 by default.
        end: in (0, 1]; of a ramp 1 by default.
        initial: factor of a ramp before `start`, 0 by default.
        final: factor of a ramp after `end`, 1 by default.
    """

    shape: str = "constant"
    start: float | None = None
    end: float | None = None
    initial: float | None = None
    final: float | None = None

    @property
    def is_constant(self) -> bool:
        """Is the factor 1 all the time?"""
        return self.shape == "constant"

    def _ramp(self) -> tuple[float, float, float, float]:
        return (0.0 if self.start is None else self.start, 1.0 if self.end is None else self.end,
                0.0 if self.initial is None else self.initial,
                1.0 if self.final is None else self.final)

    def factor(self, progress: float) -> float:
        """The factor at a progress in [0, 1]."""
        start, end, initial, final = self._ramp()
        if self.shape == "constant":
            return 1.0
        if self.shape == "warm_up":
            return 0.0 if progress < start else 1.0
        if self.shape == "stop":
            return 1.0 if progress < end else 0.0
        done = min(max((progress - start) / (end - start), 0.0), 1.0)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return initial + (final - initial) * done

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each.

        Args:
            where: prefix that names the setting.
        """
        if self.shape not in SHAPES:
            return [f"{where}.shape must be one of {', '.join(SHAPES)}, got {self.shape!r}."]
        known = SHAPES[self.shape]
        given = {one.name: getattr(self, one.name) for one in fields(self)
                 if one.name != "shape" and getattr(self, one.name) is not None}
        found = [f"{where}.{name} is {value:g}, but the shape {self.shape} has no {name}"
                 f"{'; it has ' + ', '.join(known) if known else ''}. Set it to null."
                 for name, value in given.items() if name not in known]
        needed = _NEEDED.get(self.shape)
        if needed and needed not in given:
            found.append(f"{where}.{needed} is missing: the share of the steps at which the shape "
                         f"{self.shape} switches.")
        if not 0 <= given.get("start", 0) < 1:
            found.append(f"{where}.start must lie in [0, 1), got {given['start']:g}.")
        if not 0 < given.get("end", 1) <= 1:
            found.append(f"{where}.end must lie in (0, 1], got {given['end']:g}.")
        if self.shape == "stop" and given.get("end") == 1:
            found.append(f"{where}.end must be below 1 for the shape stop, which is 0 from there "
                         "on. Use the shape constant to go on to the end.")
        found += [f"{where}.{name} must be >= 0, got {given[name]:g}."
                  for name in ("initial", "final") if given.get(name, 0) < 0]
        start, end, _, _ = self._ramp()
        if not found and start >= end:
            found.append(f"{where}.start must be smaller than {where}.end ({end:g}), got "
                         f"{start:g}.")
        return found


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """One schedule for each weight of an `Objective`, and for its temperature."""

    label_weight: Schedule = field(default_factory=Schedule)
    soft_label_weight: Schedule = field(default_factory=Schedule)
    logit_weight: Schedule = field(default_factory=Schedule)
    hint_weight: Schedule = field(default_factory=Schedule)
    temperature: Schedule = field(default_factory=Schedule)

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        for one in fields(self):
            schedule = getattr(self, one.name)
            found += schedule.mistakes(f"{where}.{one.name}")
        temperature = self.temperature
        if temperature.shape in _NEEDED:
            found.append(f"{where}.temperature.shape must be constant, linear or cosine, got "
                         f"{temperature.shape!r}: a temperature is never 0.")
        elif not temperature.is_constant and not found:
            _, _, *factors = temperature._ramp()
            found += [f"{where}.temperature.{name} must be > 0, got {factor:g}: a temperature is "
                      "never 0."
                      for name, factor in zip(("initial", "final"), factors, strict=True)
                      if factor == 0]
        return found

    def moments(self) -> list[float]:
        """A progress inside every stretch between two turns of any schedule."""
        turns = {0.0, 1.0}
        for one in fields(self):
            schedule: Schedule = getattr(self, one.name)
            turns |= {turn for turn in (schedule.start, schedule.end) if turn is not None}
        return [(a + b) / 2 for a, b in itertools.pairwise(sorted(turns))]
