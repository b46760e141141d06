"""What hints add to labels and soft labels, on a simulated feed of known click probabilities.

python -m benchmarks.quality.hint_ablation [--regime third_order ...] [--rows 150000]
    [--train-days 26] [--seeds 5] [--deep | --confirm QUESTION] [--state state]

Students of three widths, with and without hints, are trained beside one teacher in a single pass
per seed: all of them read the very same embedding and listen to the very same teacher.

The analysis, written down before a test row of the feed was read (the code was tried on a feed of
another seed):

- The feed has 100 rows a user, as the default one; 26 days train, 2 validate, 3 test. Fewer
  `--train-days` shorten the training part alone: the tested rows stay the same.
- The family is every student with hints against the same network with the same losses but the
  hints, in one regime and one size. Intervals of 95% are those of `dualdnn.evaluation.paired`,
  users crossed with seeds; p-values are corrected by Holm over the family, metric by metric.
- Two metrics: the AUC on the labels, and the expected log loss, in which each row counts as a
  click with its true probability and as none with the rest, so that labels add no noise.
- No weight of the hints is chosen: all are shown.
- What soft labels and the frozen input buy is a family of its own.
- `--deep` is another family, planned later: a deep and narrow student (`DEEP`), which FitNets
  (Romero et al. 2015) made hints for, against itself without. `--confirm` asks one question
  (`QUESTIONS`) of a feed that nothing was tried on. See `scheme_analysis.md`.

Students of one pass have initial weights of their own; the seeds average over them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.quality.in_process import best_logits, feed_overrides, open_data, train_plan
from dualdnn.data.simulator.formula import REGIMES
from dualdnn.errors import DataError
from dualdnn.evaluation.comparison_tables import interval_text, p_text
from dualdnn.evaluation.feed_references import true_probabilities
from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.paired import (
    ComparedRows,
    Resampled,
    holm,
    paired_difference,
)

TEACHER = "teacher"
_METRICS = ("auc", "log_loss")
VALID_DAYS, TEST_DAYS = 2, 3
_LAST, _ALL = ((-1, -1),), ((0, 0), (1, 1))
WIDTHS = {"light": (128, 64), "units16": (16,), "units8": (8,)}
# The teacher's first layer is a hint for the middle of it.
DEEP, _DEEP_ALL = {"deep16": (16, 16, 16, 16)}, ((0, 1), (1, 3))


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One student: its network and what it learns from.

    Attributes:
        width: key of the hidden layers' widths.
        labels: weight of the labels.
        soft_labels: weight of the teacher's probabilities.
        hints: pairs (teacher layer, student layer).
        hint_weight: of the hints.
        hint_loss: `mse` or `cosine`.
        scheme: how it meets the teacher; None for co_training.
    """

    width: str
    labels: float = 1.0
    soft_labels: float = 1.0
    hints: tuple[tuple[int, int], ...] = ()
    hint_weight: float = 0.0
    hint_loss: str = "mse"
    scheme: str | None = None

    @property
    def name(self) -> str:
        """`light_soft_last_0-1`: width, losses, layers and weight of the hints."""
        parts = [self.width, "soft" if self.soft_labels else "labels"]
        if self.hints:
            weight = f"{self.hint_weight:g}".replace(".", "-")
            cosine = ["cosine"] if self.hint_loss == "cosine" else []
            parts += ["all" if len(self.hints) > 1 else "last", *cosine, weight]
        return "_".join(parts)

    @property
    def without_hints(self) -> Arm:
        """The same student without hints."""
        return replace(self, hints=(), hint_weight=0.0, hint_loss="mse")

    def config(self) -> dict[str, Any]:
        """As a file under conf/student/ would say it."""
        return {
            "hidden_units": list({**WIDTHS, **DEEP}[self.width]), "activation": "relu",
            "dropout": 0.0, "linear": True, "optimizer": {}, "scheme": self.scheme,
            "distillation": {"label_weight": self.labels, "soft_label_weight": self.soft_labels,
                             "hints": [list(pair) for pair in self.hints],
                             "hint_weight": self.hint_weight, "hint_loss": self.hint_loss},
        }


def arms_of(widths: Sequence[str]) -> list[Arm]:
    """Every student of the ablation, first those without hints.

    Args:
        widths: out of `WIDTHS`. The first has the control, which has an embedding of its own.
    """
    plain = [Arm(width=width, soft_labels=soft) for width in widths for soft in (1.0, 0.0)]
    hinted = []
    for width in widths:
        if len(WIDTHS[width]) > 1:
            chosen = [(_LAST, (0.01, 0.1, 1.0, 10.0)), (_ALL, (0.1, 1.0))]
        else:
            chosen = [(_LAST, (0.1, 1.0))]
        hinted += [Arm(width=width, hints=hints, hint_weight=weight)
                   for hints, weights in chosen for weight in weights]
        # Hints in the place of soft labels.
        hinted += [Arm(width=width, soft_labels=0.0, hints=_LAST, hint_weight=weight)
                   for weight in (0.1, 1.0)]
    return [*plain, *hinted]


def deep_arms() -> list[Arm]:
    """The deep and narrow student, without hints first."""
    width = next(iter(DEEP))
    return [Arm(width=width), Arm(width=width, soft_labels=0.0),
            *(Arm(width=width, hints=_LAST, hint_weight=weight) for weight in (0.1, 1.0)),
            Arm(width=width, hints=_DEEP_ALL, hint_weight=0.1),
            Arm(width=width, hints=_LAST, hint_weight=0.1, hint_loss="cosine")]


# By name the student with hints that stands against itself without, and what else is set.
QUESTIONS: Mapping[str, tuple[Arm, Sequence[str]]] = {
    "last_layer": (Arm(width="deep16", hints=_LAST, hint_weight=0.1), ["data.source.seed=3"]),
    "few_passes": (Arm(width="deep16", hints=_DEEP_ALL, hint_weight=0.1),
                   ["data.source.seed=4", "training.epochs=4"]),
}


def confirmed_arms(question: str) -> list[Arm]:
    """Of the deep students those that one question needs."""
    return [*deep_arms()[:2], QUESTIONS[question][0]]


def hint_pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """The family: each student with hints, and the same one without."""
    return [(arm.name, arm.without_hints.name) for arm in arms if arm.hints]


def context_pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """What there is to win, what the frozen input wins of it, and what soft labels do."""
    first = arms[0].name
    return [(TEACHER, f"{first}.alone"), (first, f"{first}.alone"), (first, TEACHER),
            *((arm.name, replace(arm, soft_labels=0.0).name) for arm in arms
              if arm.soft_labels and not arm.hints)]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What every tower says about the test rows, seed by seed.

    Attributes:
        labels: (rows,) 0 or 1.
        truth: (rows,) the click probabilities that the labels were drawn from.
        groups: (rows,) users.
        logits: (seeds, rows) by tower.
    """

    labels: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    logits: Mapping[str, np.ndarray]


def overrides_of(*, regime: str, rows: int, train_days: int, state: str) -> list[str]:
    """The configuration of one regime and size; other settings are the defaults of conf/."""
    return [
        *feed_overrides(regime, rows), "window=rolling",
        f"window.days={train_days + VALID_DAYS}", f"window.valid_days={VALID_DAYS}",
        f"window.holdout_days={TEST_DAYS}", f"paths.state={state}",
    ]


def run(arms: Sequence[Arm], *, regime: str, rows: int, seeds: int, train_days: int = 26,
        state: str = "state", overrides: Sequence[str] = ()) -> Ablation:
    """Train every arm beside one teacher, once a seed.

    Args:
        arms: of `arms_of`.
        regime: of the feed.
        rows: of its 31 days.
        seeds: trainings, with seeds 1, 2, ...
        train_days: 1 to 26, the last before the validation days.
        state: where the feed and its encoded days are kept.
        overrides: further ones, as on the command line of `pipelines.train`.
    """
    students = {arm.name: arm.config() for arm in arms}
    by_seed = []
    for seed in range(1, seeds + 1):
        plan, examples = open_data(
            [*overrides_of(regime=regime, rows=rows, train_days=train_days, state=state),
             # Consolidation, without hints for all, would come after what is compared here.
             "training.consolidation_epochs=0", "controls=[alone]", f"seed={seed}", *overrides],
            students)
        # The control of one student is enough: each has a table of its own.
        control = f"{arms[0].name}.alone"
        plan = replace(plan, controls=[one for one in plan.controls if one.name == control])
        trainer = train_plan(plan, examples)
        by_seed.append(best_logits(trainer, examples, examples.split.test))
    test = examples.split.test
    return Ablation(
        labels=examples.labels[test], groups=examples.groups[test],
        truth=true_probabilities(plan.lake, examples)[test],
        logits={tower: np.stack([one[tower] for one in by_seed]) for tower in by_seed[0]},
    )


class Measured:
    """Metrics and paired differences of an ablation; every tower is resampled once."""

    def __init__(self, ablation: Ablation, *, resamples: int = 1000) -> None:
        labels, groups, truth = ablation.labels, ablation.groups, ablation.truth
        self.ablation = ablation
        self._auc = ComparedRows(labels, groups, resamples=resamples)
        # Every row twice, as a click and as none, with the probabilities of both.
        self._expected = ComparedRows(
            np.repeat([1.0, 0.0], len(truth)), np.tile(groups, 2),
            np.concatenate([truth, 1 - truth]), resamples=resamples)
        self._of_tower: dict[tuple[str, str], Resampled] = {}

    @property
    def users(self) -> int:
        """Users of the test rows."""
        return self._auc.groups

    def resampled(self, tower: str, metric: str) -> Resampled:
        """A tower's `auc`, or its expected `log_loss`, on every draw of users."""
        if (tower, metric) not in self._of_tower:
            logits = self.ablation.logits[tower]
            found = (self._auc.measured(logits, metric) if metric == "auc" else
                     self._expected.measured(np.tile(logits, 2), metric))
            if found is None:
                raise DataError("the test rows hold one class only; use more rows.")
            self._of_tower[tower, metric] = found
        return self._of_tower[tower, metric]

    def metrics(self) -> list[dict[str, Any]]:
        """A row for the truth and each tower: AUC, expected log loss, distance to the teacher.

        `to_teacher` is the root mean square of the difference of logits.
        """
        labels, truth = self.ablation.labels, self.ablation.truth
        entropy = -(truth * np.log(truth) + (1 - truth) * np.log(1 - truth))
        rows: list[dict[str, Any]] = [{"tower": "truth", "auc": auc(labels, truth),
                                       "log_loss": float(entropy.mean())}]
        for tower, logits in self.ablation.logits.items():
            apart = np.sqrt(np.mean((logits - self.ablation.logits[TEACHER]) ** 2, axis=1))
            rows.append({"tower": tower, "to_teacher": float(apart.mean()),
                         **{metric: float(self.resampled(tower, metric).values.mean())
                            for metric in _METRICS}})
        return rows

    def differences(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """A row per pair (tower, other): by metric value, 95% interval, p and p by Holm."""
        rows: list[dict[str, Any]] = [{"tower": tower, "to": other} for tower, other in pairs]
        for metric in _METRICS:
            for row in rows:
                found = paired_difference(self.resampled(row["tower"], metric),
                                          self.resampled(row["to"], metric))
                low, high = found.interval()
                row[metric] = {"value": found.value, "low": low, "high": high,
                               "p": found.p_value()}
            corrected = holm({row["tower"] + row["to"]: row[metric]["p"] for row in rows})
            for row, p in zip(rows, corrected.values(), strict=True):
                row[metric]["p_holm"] = p
        return rows


def metrics_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of `Measured.metrics`."""
    lines = ["| tower | AUC | expected log loss | distance to the teacher's logit |",
             "|---|---|---|---|"]
    for row in rows:
        distance = f"{row['to_teacher']:.3f}" if "to_teacher" in row else ""
        lines.append(f"| {row['tower']} | {row['auc']:.4f} | {row['log_loss']:.4f} | {distance} |")
    return "\n".join(lines)


def differences_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of `Measured.differences`."""
    lines = ["| difference | AUC [95%] | p (Holm) | expected log loss [95%] | p (Holm) |",
             "|---|---|---|---|---|"]
    for row in rows:
        cells = [cell for metric in _METRICS
                 for cell in (interval_text(row[metric]), p_text(row[metric]["p_holm"]))]
        lines.append(f"| {row['tower']} − {row['to']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=["third_order", "pairwise"])
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--train-days", type=int, default=26)
    parser.add_argument("--seeds", type=int, default=5)
    family = parser.add_mutually_exclusive_group()
    family.add_argument("--deep", action="store_true", help="the family of the deep student")
    family.add_argument("--confirm", choices=QUESTIONS, help="one question, of another feed")
    parser.add_argument("--state", default="state", help="where feeds and encoded days are kept")
    given = parser.parse_args()
    arms = deep_arms() if given.deep else (
        confirmed_arms(given.confirm) if given.confirm else arms_of(list(WIDTHS)))
    for regime in given.regime:
        found = Measured(run(arms, regime=regime, rows=given.rows, seeds=given.seeds,
                             train_days=given.train_days, state=given.state,
                             overrides=QUESTIONS[given.confirm][1] if given.confirm else []))
        print(f"\n### {regime}, {given.rows} rows, {given.train_days} days of training, seeds 1 to "
              f"{given.seeds}: {len(found.ablation.labels)} test rows\n\n"
              f"{metrics_table(found.metrics())}\n\n"
              f"{differences_table(found.differences(context_pairs(arms)))}\n\n"
              f"{differences_table(found.differences(hint_pairs(arms)))}", flush=True)


if __name__ == "__main__":
    main()
