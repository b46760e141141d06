"""The limits of every rule of the gate."""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("reject", "warn", "ignore")
TOWERS = ("student", "teacher")


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A rule without limits.

    Attributes:
        severity: `reject`, `warn` (only reported) or `ignore`.
    """

    severity: str = "reject"

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.severity not in SEVERITIES:
            found.append(f"{where}.severity must be one of {', '.join(SEVERITIES)}, got "
                         f"{self.severity!r}.")
        for name in getattr(self, "towers", ()):
            if name not in TOWERS:
                found.append(f"{where}.towers must hold names of {', '.join(TOWERS)}, got "
                             f"{name!r}.")
        return found + self._limit_mistakes(where)

    def _limit_mistakes(self, where: str) -> list[str]:
        return []


def too_small(where: str, least: float, **values: float | None) -> list[str]:
    """A sentence for every given value below `least`."""
    return [f"{where}.{name} must be >= {least:g}, got {value:g}."
            for name, value in values.items() if value is not None and value < least]


@dataclass(frozen=True, kw_only=True)
class Comparison(Switch):
    """A metric against the champion's on the same rows.

    Fails where the whole interval is worse than `allowed`, or the difference itself worse than
    `hard`. `hard` is for holdouts too small to prove anything: an interval over 500 rows spans
    0.05 of AUC, so only a broken model is caught there; on 10^7 rows it spans 0.0003, so the
    interval decides and `hard` never comes to it. Asking the other way, that the new version be
    proven not worse, would publish nothing on small days and let the served model grow old.

    Attributes:
        allowed: the loss that is not worth a day without a new model.
        hard: the difference that rejects whatever the interval says.
        towers: `student` (the one to publish) and `teacher`.
    """

    allowed: float
    hard: float
    towers: tuple[str, ...] = TOWERS

    def _limit_mistakes(self, where: str) -> list[str]:
        found = too_small(where, 0, allowed=self.allowed)
        if self.hard < self.allowed:
            found.append(f"{where}.hard must be >= {where}.allowed ({self.allowed:g}), got "
                         f"{self.hard:g}.")
        return found


@dataclass(frozen=True, kw_only=True)
class SliceComparison(Comparison):
    """A comparison on parts of the holdout.

    Attributes:
        slices: names or patterns such as `new_item`, `country=*`, `*`.
        min_rows: smaller slices are not judged.
    """

    slices: tuple[str, ...] = ()
    min_rows: int = 200

    def _limit_mistakes(self, where: str) -> list[str]:
        return super()._limit_mistakes(where) + too_small(where, 1, min_rows=self.min_rows)


@dataclass(frozen=True, kw_only=True)
class HoldoutSize(Switch):
    """What the holdout must have to say anything."""

    min_rows: int = 200
    min_positives: int = 10
    min_negatives: int = 10

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 1, min_rows=self.min_rows, min_positives=self.min_positives,
                      min_negatives=self.min_negatives)


@dataclass(frozen=True, kw_only=True)
class LabelRate(Switch):
    """Label rate of the holdout against that of training.

    Attributes:
        ratio: fails above `ratio` and below 1 / `ratio` times the rate of training,
        errors: where the difference is also this many standard errors, so that a small day is
            not taken for a broken one.
    """

    ratio: float = 1.5
    errors: float = 5.0

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 1, ratio=self.ratio) + too_small(where, 0, errors=self.errors)


@dataclass(frozen=True, kw_only=True)
class BeatsConstant(Switch):
    """Fails where log loss is proven worse than that of always saying the holdout's own rate."""

    towers: tuple[str, ...] = TOWERS


@dataclass(frozen=True, kw_only=True)
class Calibration(Switch):
    """Mean predicted over mean observed.

    Fails where the whole interval lies outside [low, high], or the value outside
    [hard_low, hard_high].
    """

    low: float = 0.8
    high: float = 1.25
    hard_low: float = 0.5
    hard_high: float = 2.0
    towers: tuple[str, ...] = ("student",)

    def _limit_mistakes(self, where: str) -> list[str]:
        if 0 < self.hard_low <= self.low <= 1 <= self.high <= self.hard_high:
            return []
        return [f"{where} must hold 0 < hard_low <= low <= 1 <= high <= hard_high, got "
                f"{self.hard_low:g}, {self.low:g}, {self.high:g}, {self.hard_high:g}."]


@dataclass(frozen=True, kw_only=True)
class CalibrationError(Switch):
    """Expected calibration error, less the most that chance gives a perfectly calibrated model."""

    excess: float = 0.03
    towers: tuple[str, ...] = ("student",)

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 0, excess=self.excess)


@dataclass(frozen=True, kw_only=True)
class OutOfVocabulary(Switch):
    """Share of missing or unseen values of every field.

    Attributes:
        rise: above the champion's share, absolute,
        errors: where the rise is also this many standard errors over users, so that the few rows
            or users which a version was published with are not taken for what is usual.
        maximum: of the share itself, or None; the only limit without a champion.
    """

    rise: float = 0.1
    errors: float = 5.0
    maximum: float | None = None

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 0, rise=self.rise, errors=self.errors, maximum=self.maximum)


@dataclass(frozen=True, kw_only=True)
class ScoreChange(Switch):
    """The student's scores against the champion's on the same rows.

    Attributes:
        psi: population stability index over ten parts of the champion's scores, every row spread
            over a quarter of their standard deviation.
        mean_abs_logit: mean of |logit - champion's logit|.
    """

    psi: float = 0.5
    mean_abs_logit: float = 1.0

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 0, psi=self.psi, mean_abs_logit=self.mean_abs_logit)


@dataclass(frozen=True, kw_only=True)
class ReferenceChange(Switch):
    """Today's histogram of scores against the one that the champion was published with."""

    severity: str = "warn"
    psi: float = 0.25

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 0, psi=self.psi)


@dataclass(frozen=True, kw_only=True)
class Latency(Switch):
    """Seconds a call of the student, over the champion's, timed alternately.

    Attributes:
        ratio: most.
        rows: examples a call.
    """

    ratio: float = 1.5
    rows: int = 500

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 1, ratio=self.ratio, rows=self.rows)


@dataclass(frozen=True, kw_only=True)
class Size(Switch):
    """Bytes of the exported student.

    Attributes:
        ratio: most, over the champion's.
        maximum: most bytes, or None; the only limit without a champion.
    """

    ratio: float = 1.5
    maximum: int | None = None

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 1, ratio=self.ratio, maximum=self.maximum)


@dataclass(frozen=True, kw_only=True)
class Parity(Switch):
    """Largest difference of a probability between the exported graph and the model in memory."""

    maximum: float = 1e-6

    def _limit_mistakes(self, where: str) -> list[str]:
        return too_small(where, 0, maximum=self.maximum)
