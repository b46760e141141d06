"""Two passes over encoded days, in memory that grows with distinct values and never with rows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualdnn.data.encoded_day import EncodedDay
from dualdnn.data.inspection.categorical import CategoricalTally
from dualdnn.data.inspection.facts import FieldFacts, field_facts, log_facts
from dualdnn.data.inspection.numbers import NumberTally
from dualdnn.data.inspection.own_label import OwnLabelMoves, scatter_over_coin_flips
from dualdnn.data.inspection.sections import report_sections
from dualdnn.data.inspection.settings import InspectionSettings
from dualdnn.data.signs import MISSING
from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema


def _labels(day: EncodedDay) -> np.ndarray:
    return np.asarray(day.array("labels")).astype(np.int64)


def _draws(day: EncodedDay, schema: Schema) -> float:
    """Independent rows that the rows of a day are worth, if those of one group are all alike.

    Rows of a group per row of the log: Kish 1965, "Survey Sampling", effective sample size.
    Without a group it is the users' id that has most values; without that, all rows count.
    """
    if schema.group:
        groups = np.asarray(day.array("groups"))
        alone = groups == MISSING  # each of these rows is a group of its own
        sizes: np.ndarray = np.concatenate([np.unique(groups[~alone], return_counts=True)[1],
                                            np.ones(int(alone.sum()), np.int64)])
    else:
        counts = day.array("counts")
        ids = [np.asarray(counts[day.section(field.name)]) for field in schema.fields
               if field.kind == "id" and field.side == "user"]
        sizes = max(ids, key=len) if ids else np.zeros(0)
    sizes = sizes.astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else float(day.rows)


class _Passes:
    """The tallies of all fields."""

    def __init__(self, days: Sequence[EncodedDay], schema: Schema,
                 settings: InspectionSettings) -> None:
        self.days, self.settings = days, settings
        # Vectors are not looked into; those of a file stand beside the field that is their key.
        self.categorical = [CategoricalTally(field, settings.oov_days) for field in schema.fields
                            if field.kind in ("id", "ids", "hash", "sequence")]
        self.numbers = [NumberTally(field) for field in schema.fields if field.kind == "number"]
        # A number is followed along the ids of its own side, and along those of both sides where
        # it describes the context.
        self.moves = {
            tally.field: OwnLabelMoves(len(self.numbers)) for tally in self.categorical
            if self.numbers and tally.field.kind == "id" and tally.field.side != "context"
        }
        rows = np.array([day.rows for day in days])
        fingerprint = hashlib.sha256("".join(day.meta["fingerprint"] for day in days).encode())
        self.log = log_facts(
            name=schema.name, label=schema.label, days=[day.day for day in days], rows=rows,
            positives=np.array([int(_labels(day).sum()) for day in days]),
            draws=np.array([_draws(day, schema) for day in days]),
            drift_days=settings.drift_days, fit_share=settings.fit_share,
            fingerprint=fingerprint.hexdigest())
        begin = np.concatenate([[0], np.cumsum(rows)[:-1]])
        self.fit_rows = np.clip(self.log.fit_rows - begin, 0, rows)

    def read(self, on_day: Callable[[int], None]) -> None:
        """Both passes; `on_day` hears how many days of a pass are done."""
        for number, day in enumerate(self.days):
            self._read_values(day, int(self.fit_rows[number]))
            on_day(number + 1)
        for number, day in enumerate(self.days):
            if self.numbers:
                labels = _labels(day)
                for tally in self.numbers:
                    tally.add_buckets(np.asarray(day.numbers(tally.field.name)), labels,
                                      int(self.fit_rows[number]))
            on_day(number + 1)

    def _read_values(self, day: EncodedDay, fit_rows: int) -> None:
        labels, signs, counts = _labels(day), day.array("signs"), day.array("counts")
        for tally in self.categorical:
            tally.add(day, np.asarray(signs), np.asarray(counts), labels, fit_rows)
        columns = []
        for number in self.numbers:
            values = np.asarray(day.numbers(number.field.name))
            number.add_values(values, labels, fit_rows)
            columns.append(values)
        if not self.moves:
            return
        numbers, timestamps = np.stack(columns, axis=1), np.asarray(day.array("timestamps"))
        for field, moves in self.moves.items():
            # The missing, which stand behind the section's last value, have no sign.
            of_field = np.append(signs[day.section(field.name)], 0)
            moves.add(of_field[np.asarray(day.local_cells(field.name))[:, 0]], numbers, labels,
                      timestamps)

    def _texts(self) -> dict[str, list[str]]:
        """The most frequent values of each field that may be shown, from the newest day of each."""
        most = max(self.settings.top_values, self.settings.drift_values)
        wanted: dict[int, list[tuple[CategoricalTally, int, int]]] = {}
        found: dict[str, list[str]] = {}
        for tally in self.categorical:
            if tally.field.pii:
                continue
            top = tally.totals.top(most)
            found[tally.field.name] = [""] * len(top)
            for rank, at in enumerate(top):
                newest = int(tally.totals.last_day[at])
                wanted.setdefault(newest, []).append((tally, rank, int(tally.totals.signs[at])))
        for day in self.days:
            if asked := wanted.get(day.day.toordinal()):
                texts, signs = day.values(), day.array("signs")
                for tally, rank, sign in asked:
                    section = day.section(tally.field.name)
                    at = section.start + int(np.searchsorted(signs[section], sign))
                    found[tally.field.name][rank] = texts[at]
        return found

    def facts(self) -> list[FieldFacts]:
        """Of every field, in the order of the schema's kinds."""
        texts = self._texts()
        found = []
        for tally in self.categorical:
            shown = texts.get(tally.field.name, [])
            most = self.settings.drift_values
            histograms = tally.histograms(list(self.days), most)
            names = [f"`{text}`" for text in shown[:most]] if shown else []
            names += ["a frequent value"] * (most - len(names))
            found.append(field_facts(tally, self.log, histograms,
                                     [*names, "all other values", "no value"], shown))
        for position, number in enumerate(self.numbers):
            found.append(field_facts(
                number, self.log, np.stack(number.histograms), _ranges(number),
                moves=self._moves_of(number.field, position),
                scatter=scatter_over_coin_flips(number.distinct)))
        return found

    def _moves_of(self, field: Field, position: int) -> tuple[float, str] | None:
        strengths = [(moves.strength(position), along.name) for along, moves in self.moves.items()
                     if field.side in (along.side, "context")]
        return max(strengths, default=None)


def _ranges(number: NumberTally) -> list[str]:
    """What each bucket of a number's histogram holds."""
    edges = number.drift_edges
    if not len(edges):
        return ["any value", "no value"]
    between = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
    return [f"up to {edges[0]:.4g}", *between, f"above {edges[-1]:.4g}", "no value"]


def inspect_days(
    days: Sequence[EncodedDay],
    schema: Schema,
    settings: InspectionSettings,
    on_day: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Inspect a log.

    Args:
        days: encoded, in order.
        schema: of the log.
        settings: see `InspectionSettings`.
        on_day: called after each day of each of the two passes with the days done in it.

    Returns:
        The sections `data`, `days`, `fields` and `findings` of the report, as plain values. No
        value of a `pii` field is in them.

    Raises:
        DataError: there are no days.
    """
    if not days:
        raise DataError("an inspection needs at least one day, got none. Choose days of the lake.")
    passes = _Passes(days, schema, settings)
    passes.read(on_day)
    order = {field.name: number for number, field in enumerate(schema.fields)}
    facts = sorted(passes.facts(), key=lambda one: order[one.field.name])
    return report_sections(passes.log, facts, settings, schema)
