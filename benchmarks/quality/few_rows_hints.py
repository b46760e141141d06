"""What hints add to a student that has few rows to learn from a finished teacher.

python -m benchmarks.quality.few_rows_hints [--regime third_order] [--rows 150000]
    [--sizes 1000 4000] [--seeds 20] [--feed-seed 5] [--state state]

A new student beside a teacher that learned 26 days of a simulated feed has all of the teacher's
embedding, but only some hundreds or thousands of rows on which it hears the teacher. A logit says
one number about a row, a hidden layer of 128 units says 128 (FitNets, Romero et al. 2015).
Students of one pass (scheme two_stage_hints) read the very same embedding and the very same rows,
drawn from the training part; they stop early on the feed's validation days. The analysis stands in
the eleventh part of `scheme_analysis.md`, written down before its test rows were read.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality.hint_ablation import (
    TEACHER,
    Ablation,
    Arm,
    Measured,
    differences_table,
    metrics_table,
    overrides_of,
)
from benchmarks.quality.in_process import best_logits, open_data, train_plan
from dualdnn.data.examples import Examples
from dualdnn.data.simulator.formula import REGIMES
from dualdnn.evaluation.feed_references import true_probabilities
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.settings import TrainingSettings
from dualdnn.training.trainer import Trainer
from pipelines.build import build_model, build_train_step
from pipelines.plan import Plan

BATCH_SIZE, MOST_STEPS, PATIENCE = 64, 4000, 20

_SOFT = Arm(width="light", labels=0.0, scheme="two_stage_hints")
_BOTH = replace(_SOFT, labels=1.0)
ARMS = {
    "labels": replace(_BOTH, soft_labels=0.0),
    "soft": _SOFT,
    "labels_soft": _BOTH,
    "soft_all_10": replace(_SOFT, hints=((0, 0), (1, 1)), hint_weight=10.0),
    "labels_soft_last_100": replace(_BOTH, hints=((-1, -1),), hint_weight=100.0),
}
# The family of a size: each student with hints, and the same one without.
PAIRS = (("soft_all_10", "soft"), ("labels_soft_last_100", "labels_soft"))


def few_rows(examples: Examples, size: int, seed: int) -> Examples:
    """The examples with `size` rows of their training part, drawn without replacement."""
    drawn = np.random.default_rng([seed, size]).choice(examples.split.train, size, replace=False)
    return replace(examples, split=replace(examples.split, train=drawn))


def train_students(plan: Plan, examples: Examples, teacher: BestWeights) -> Trainer:
    """Train the students of a plan from the weights of a finished teacher, to their best."""
    model = build_model(plan, examples.schema, examples.row_map)
    train_step = build_train_step(plan, model, examples.training_size)
    teacher.load_into(model, TEACHER)
    # Averages of what was just loaded begin there.
    for optimizer in train_step.table_optimizers.values():
        optimizer.settle()
    train_step.dense_averages[TEACHER].settle()
    steps_a_pass = -(-len(examples.split.train) // BATCH_SIZE)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            train_step=train_step, examples=examples, seed=plan.seed, folder=Path(scratch),
            settings=TrainingSettings(
                epochs=-(-MOST_STEPS // steps_a_pass), batch_size=BATCH_SIZE,
                evaluations_per_epoch=1, patience=PATIENCE, checkpoint_every_steps=MOST_STEPS),
            towers=[student.name for student in plan.students])
        trainer.run()
    return trainer


def run(arms: Mapping[str, Arm], *, regime: str, rows: int, sizes: Sequence[int], seeds: int,
        feed_seed: int, state: str = "state", part: str = "test") -> Mapping[int, Ablation]:
    """By number of rows that the students have, what every tower says about a part.

    Args:
        arms: students by name.
        regime: of the feed.
        rows: of its 31 days.
        sizes: numbers of rows that the students learn from.
        seeds: trainings, with seeds 1, 2, ...
        feed_seed: of the feed.
        state: where the feed and its encoded days are kept.
        part: `test`, or `valid` to try settings.
    """
    students = {name: arm.config() for name, arm in arms.items()}
    by_size: dict[int, list[dict[str, np.ndarray]]] = {size: [] for size in sizes}
    for seed in range(1, seeds + 1):
        plan, examples = open_data(
            [*overrides_of(regime=regime, rows=rows, train_days=26, state=state),
             f"data.source.seed={feed_seed}", "controls=[]", f"seed={seed}"], students)
        index = getattr(examples.split, part)
        teacher = train_plan(replace(plan, students=[]), examples)
        of_teacher = best_logits(teacher, examples, index)
        for size, found in by_size.items():
            trainer = train_students(plan, few_rows(examples, size, seed), teacher.best)
            found.append({**of_teacher, **best_logits(trainer, examples, index)})
    truth = true_probabilities(plan.lake, examples)[index]
    return {size: Ablation(
        labels=examples.labels[index], groups=examples.groups[index], truth=truth,
        logits={tower: np.stack([one[tower] for one in found]) for tower in found[0]},
    ) for size, found in by_size.items()}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regime", choices=REGIMES, default="third_order")
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--feed-seed", type=int, default=5)
    parser.add_argument("--state", default="state", help="where the feed and its days are kept")
    given = parser.parse_args()
    found = run(ARMS, regime=given.regime, rows=given.rows, sizes=given.sizes, seeds=given.seeds,
                feed_seed=given.feed_seed, state=given.state)
    for size, ablation in found.items():
        measured = Measured(ablation)
        print(f"\n### {given.regime}, {given.rows} rows, students of {size} rows, seeds 1 to "
              f"{given.seeds}: {len(ablation.labels)} test rows of {measured.users} users\n\n"
              f"{metrics_table(measured.metrics())}\n\n"
              f"{differences_table(measured.differences(PAIRS))}", flush=True)


if __name__ == "__main__":
    main()
