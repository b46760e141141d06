"""What one look over all days has found, before anyone judges it."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualdnn.data.inspection.categorical import CategoricalTally
from dualdnn.data.inspection.drift import (
    days_before,
    drift_by_day,
    first_and_last_third,
    population_stability_index,
    tells_the_day,
)
from dualdnn.data.inspection.numbers import NumberTally
from dualdnn.data.inspection.presence import Presence
from dualdnn.data.inspection.score_tally import ScoreTally
from dualdnn.schema import Field


@dataclass(frozen=True, kw_only=True)
class LogFacts:
    """The log by day.

    Attributes:
        name: of the data.
        label: the column of labels.
        days: in order.
        rows: (days,) int64.
        positives: (days,) int64 rows with label 1.
        draws: (days,) independent rows that those of each day are worth: the rows of one user are
            alike, so a share over them is not as sure as their number suggests.
        before: per day, the days of the `drift_days` calendar days before it.
        fit_rows: the oldest rows, on which single fields are fitted.
        fingerprint: of all days' contents.
    """

    name: str
    label: str
    days: Sequence[datetime.date]
    rows: np.ndarray
    positives: np.ndarray
    draws: np.ndarray
    before: Sequence[slice]
    fit_rows: int
    fingerprint: str

    @property
    def rate(self) -> float:
        """Mean label."""
        return float(self.positives.sum() / self.rows.sum())

    @property
    def missing_days(self) -> list[tuple[datetime.date, datetime.date]]:
        """Runs of calendar days without a folder between the first and the last day."""
        one = datetime.timedelta(days=1)
        return [(day + one, following - one)
                for day, following in itertools.pairwise(self.days)
                if following - day > one]


@dataclass(frozen=True, kw_only=True)
class FieldFacts:
    """One field over all days.

    Attributes:
        field: of the schema.
        tally: of its values.
        histograms: (days, bins) values of each day.
        bins: what each bin holds; without values where the field is `pii`.
        texts: the most frequent values, where there are any to show.
        drift: per day, the index against the days before it; none for a field that is the same
            all day, as the day of the week.
        deviations: per day, the standard deviations of chance that this is worth.
        drift_of_thirds: the index between the first and the last third of the rows.
        moves: how well its move between two rows of the same id tells the label, and that id.
        scatter: see `scatter_over_coin_flips`.
    """

    field: Field
    tally: CategoricalTally | NumberTally
    histograms: np.ndarray
    bins: Sequence[str]
    texts: Sequence[str] = ()
    drift: Sequence[float | None]
    deviations: Sequence[float | None]
    drift_of_thirds: float | None
    moves: tuple[float, str] | None = None
    scatter: tuple[float, float] | None = None

    @property
    def presence(self) -> Presence:
        """Rows with and without a value."""
        return self.tally.presence

    @property
    def scores(self) -> ScoreTally:
        """Of the field alone."""
        return self.tally.scores

    @property
    def auc(self) -> float | None:
        """Of the field alone, learnt from the older rows."""
        return self.scores.auc()

    @property
    def distinct(self) -> int:
        """Number of distinct values."""
        if isinstance(self.tally, NumberTally):
            return self.tally.distinct.distinct
        return len(self.tally.totals.signs)

    @property
    def oov_by_day(self) -> list[float | None]:
        """Per day, the share of values that the days before do not have."""
        if isinstance(self.tally, NumberTally):
            return []
        pairs = zip(self.tally.unseen_by_day, self.tally.values_by_day, strict=True)
        return [None if unseen is None or not total else unseen / total
                for unseen, total in pairs]

    def oov(self, days: Sequence[datetime.date], oov_days: int) -> tuple[float, bool] | None:
        """Share of unseen values over the days that the log goes back far enough for.

        Returns:
            the share, and whether any day has `oov_days` calendar days before it in the log; if
            none has, the share is that of the newest day.
        """
        if isinstance(self.tally, NumberTally):
            return None
        known = [(day, unseen, total) for day, unseen, total in
                 zip(days, self.tally.unseen_by_day, self.tally.values_by_day, strict=True)
                 if unseen is not None and total]
        full = [one for one in known if (one[0] - days[0]).days >= oov_days]
        chosen = full or known[-1:]
        if not chosen:
            return None
        return sum(one[1] for one in chosen) / sum(one[2] for one in chosen), bool(full)


def field_facts(
    tally: CategoricalTally | NumberTally, log: LogFacts, histograms: np.ndarray,
    bins: Sequence[str], texts: Sequence[str] = (), *,
    moves: tuple[float, str] | None = None, scatter: tuple[float, float] | None = None,
) -> FieldFacts:
    """The facts of a field, with its drift.

    Args:
        tally: of its values.
        log: by day.
        histograms: (days, bins) values of each day.
        bins: what each bin holds.
        texts: the most frequent values.
        moves: see `FieldFacts`.
        scatter: see `FieldFacts`.
    """
    if tells_the_day(histograms):
        return FieldFacts(
            field=tally.field, tally=tally, histograms=histograms, bins=bins, texts=texts,
            drift=[None] * len(log.days), deviations=[None] * len(log.days), drift_of_thirds=None,
            moves=moves, scatter=scatter)
    drift, deviations = drift_by_day(histograms, log.before, log.draws)
    thirds = first_and_last_third(log.rows)
    ends = None
    if thirds:
        first, last = thirds
        ends = population_stability_index(
            histograms[first].sum(axis=0), histograms[last].sum(axis=0),
            (float(log.draws[first].sum()), float(log.draws[last].sum())))[0]
    return FieldFacts(field=tally.field, tally=tally, histograms=histograms, bins=bins, texts=texts,
                      drift=drift, deviations=deviations, drift_of_thirds=ends, moves=moves,
                      scatter=scatter)


def log_facts(*, name: str, label: str, days: Sequence[datetime.date], rows: np.ndarray,
              positives: np.ndarray, draws: np.ndarray, drift_days: int, fit_share: float,
              fingerprint: str) -> LogFacts:
    """The log by day, see `LogFacts`."""
    return LogFacts(name=name, label=label, days=days, rows=rows, positives=positives, draws=draws,
                    before=days_before(days, drift_days), fingerprint=fingerprint,
                    fit_rows=int(rows.sum() * fit_share))
