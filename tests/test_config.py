import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dualdnn.config import parse


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    steps: int = 3


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    name: str
    units: Sequence[int]
    maybe: float | None = None
    flag: bool = False
    more: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = field(default_factory=dict)
    free: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


GOOD = {"inner": {"rate": 0.5}, "name": "n", "units": [4, 2]}


def mistakes_of(values):
    mistakes = []
    assert parse(Outer, values, "here", mistakes) is None
    return mistakes


def test_nested_dataclasses_lists_and_defaults_are_read():
    mistakes = []
    found = parse(Outer, {**GOOD, "more": [{"rate": 1, "steps": 9}], "named": {"a": {"rate": 2}},
                          "free": {"b": {"c": [1, None], "d": "e"}}}, "here", mistakes)
    assert found == Outer(inner=Inner(rate=0.5, steps=3), name="n", units=(4, 2),
                          more=(Inner(rate=1.0, steps=9),), named={"a": Inner(rate=2.0)},
                          free={"b": {"c": [1, None], "d": "e"}})
    assert mistakes == []


def test_a_whole_number_is_a_float_where_a_float_is_asked_for():
    found = parse(Inner, {"rate": 2}, "here", [])
    assert found.rate == 2.0
    assert isinstance(found.rate, float)


def test_every_mistake_is_collected_with_its_place():
    assert mistakes_of({
        "inner": {"rate": "fast", "stepz": 1}, "units": [4, "two"], "flag": 1, "colour": "red",
    }) == [
        "here.colour is not known; known are inner, name, units, maybe, flag, more, "
        "named, free.",
        "here.inner.stepz is not known; known are rate, steps.",
        "here.inner.rate must be a finite number, got 'fast'.",
        "here.name is missing.",
        "here.units[1] must be a whole number, got 'two'.",
        "here.flag must be true or false, got 1.",
    ]


@pytest.mark.parametrize(("key", "value", "expected"), [
    ("inner", 5, "here.inner must be a mapping, got 5."),
    ("inner", {}, "here.inner.rate is missing."),
    ("inner", {"rate": 1.0, "steps": 2.0}, "here.inner.steps must be a whole number, got 2.0."),
    ("inner", {"rate": 1.0, "steps": True}, "here.inner.steps must be a whole number, got True."),
    ("inner", {"rate": True}, "here.inner.rate must be a finite number, got True."),
    ("inner", {"rate": None}, "here.inner.rate must be a finite number, got None."),
    ("inner", {"rate": math.inf}, "here.inner.rate must be a finite number, got inf."),
    ("name", 7, "here.name must be text, got 7."),
    ("name", None, "here.name must be text, got None."),
    ("units", "42", "here.units must be a list, got '42'."),
    ("units", {"a": 1}, "here.units must be a list, got {'a': 1}."),
    ("flag", "true", "here.flag must be true or false, got 'true'."),
    ("maybe", "much", "here.maybe must be a finite number, got 'much'."),
    ("more", [{"rate": 1.0}, 3], "here.more[1] must be a mapping, got 3."),
    ("named", [1], "here.named must be a mapping, got [1]."),
    ("named", {"a": {"rate": "x"}}, "here.named.a.rate must be a finite number, got 'x'."),
    ("free", {"b": 3}, "here.free.b must be a mapping, got 3."),
    ("more", [{"rate": 1.0, "x": 2}], "here.more[0].x is not known; known are rate, steps."),
])
def test_a_wrong_value_is_named_with_what_was_expected(key, value, expected):
    assert mistakes_of({**GOOD, key: value}) == [expected]


def test_nan_is_refused_since_it_would_pass_every_range_check():
    assert not math.nan < 0
    assert mistakes_of({**GOOD, "maybe": math.nan}) == [
        "here.maybe must be a finite number, got nan."]


def test_none_is_a_value_where_the_type_allows_it():
    assert parse(Outer, {**GOOD, "maybe": None}, "here", []).maybe is None


@pytest.mark.parametrize("values", [None, 5, ["rate"], "rate"])
def test_settings_that_are_no_mapping_are_a_mistake(values):
    mistakes = []
    assert parse(Inner, values, "optimizer.table", mistakes) is None
    assert mistakes == [f"optimizer.table must be a mapping, got {values!r}."]


def test_mistakes_of_others_do_not_spoil_a_sound_part():
    mistakes = ["an earlier mistake"]
    assert parse(Inner, {"rate": 1.0}, "here", mistakes) == Inner(rate=1.0)
    assert mistakes == ["an earlier mistake"]
