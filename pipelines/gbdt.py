"""A baseline that reads the leaves of boosted trees: trees first, then the network on their leaves.

It is trained beside the other towers rather than among them, since its examples have more fields:
the same rows in the same order, under the same settings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dualdnn.baselines.gbdt import Trees, fit_trees, with_leaves
from dualdnn.baselines.tree_features import TreeFeatures
from dualdnn.data.examples import Examples
from dualdnn.errors import NonFiniteError
from dualdnn.export.saved_model import encoded_inputs
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.storage import remove_leftovers
from dualdnn.tracking import MlflowRun, TensorBoardWriter
from dualdnn.training.best_weights import BestWeights, load_best_weights
from dualdnn.training.trainer import Listener, Trainer
from pipelines.baselines import BaselinePlan
from pipelines.build import baseline_network, build_trainer
from pipelines.listen import TrainingListener
from pipelines.plan import Plan

_TREES, _CHECKPOINTS, _MODEL = "trees", "checkpoints", "model"
_log = logging.getLogger("dualdnn")


@dataclass(frozen=True, kw_only=True)
class GbdtBaseline:
    """A baseline on leaves, ready to be measured.

    Attributes:
        name: of its tower.
        trees: fitted.
        features: what the trees read.
        examples: with the leaves as fields behind the others.
        model: a dual DNN without students, whose teacher it is.
        best: its best weights.
    """

    name: str
    trees: Trees
    features: TreeFeatures
    examples: Examples
    model: DualDNN
    best: BestWeights

    def timing_inputs(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """What it is timed on, see `measure_latency`."""
        # (fields of the schema, then one a tree)
        before = self.examples.schema.width - self.trees.count
        first_rows = self.examples.row_map.bucket_rows
        return {**encoded_inputs(self.examples.rows[index, :before], self.examples.dense[index]),
                "features": self.features.matrix(index),
                "first_rows": first_rows[len(first_rows) - self.trees.count:]}


class _Renamed:
    """A listener that hears of one tower under another name."""

    def __init__(self, listener: Listener, tower: str) -> None:
        self._listener, self._tower = listener, tower

    def on_step(self, step: int, steps: int) -> None:
        self._listener.on_step(step, steps)

    def on_record(self, record: Mapping[str, Any]) -> None:
        self._listener.on_record({**record, "tower": self._tower})


def _of_trees(plan: Plan, baseline: BaselinePlan, trees: Trees, features: TreeFeatures,
              examples: Examples, state: Path) -> GbdtBaseline:
    """The baseline with its initial weights."""
    # Without the scores of finished models, which are for the teacher's pool alone.
    leafed = replace(with_leaves(examples, trees, features, state), scores=None)
    embedding = SharedEmbedding(
        schema=leafed.schema, table_rows=leafed.row_map.table_rows,
        vectors=leafed.row_map.vectors, embedding_dim=plan.embedding.dim,
        initial_stddev=plan.embedding.initial_stddev, linear=baseline.network.linear,
        privileged=False, seed=plan.seed, name=baseline.tower,
    )
    model = DualDNN(embedding=embedding, teacher=baseline_network(baseline, plan.seed))
    return GbdtBaseline(name=baseline.tower, trees=trees, features=features, examples=leafed,
                        model=model, best=BestWeights())


@dataclass(frozen=True, kw_only=True)
class TrainedBaselines:
    """What the training of all baselines on leaves leaves behind.

    Attributes:
        baselines: those that have weights.
        history: their curves, as `Trainer.history`.
        progress: how each ended, as `Trainer.summary`.
    """

    baselines: list[GbdtBaseline]
    history: list[dict[str, Any]]
    progress: dict[str, dict[str, Any]]


def train_gbdt_baselines(plan: Plan, examples: Examples, run: Path, state: Path, console: Console,
                         mlflow: MlflowRun) -> TrainedBaselines:
    """Train every baseline that reads leaves; what a killed try has left is gone on with.

    Args:
        plan: of the run.
        examples: as the other towers read them.
        run: the run's folder.
        state: `paths.state`.
        console: where progress shows.
        mlflow: the run's.
    """
    trained = TrainedBaselines(baselines=[], history=[], progress={})
    for baseline in plan.baselines:
        if baseline.gbdt is None:
            continue
        folder = _folder(run, baseline)
        remove_leftovers(folder)
        with console.status(f"growing the trees of {baseline.name}"):
            features = TreeFeatures(examples, baseline.gbdt.most_categories)
            trees = fit_trees(examples, features, baseline.gbdt, seed=plan.seed,
                              folder=folder / _TREES)
            made = _of_trees(plan, baseline, trees, features, examples, state)
        console.print(f"{baseline.name}: {trees.count} trees, then the network on their leaves")
        only = replace(plan, students=[], controls=[], baselines=[],
                       teacher_optimizer=baseline.optimizer, table=baseline.table)
        with TrainingListener(console, TensorBoardWriter(run / "tensorboard"), mlflow) as listener:
            trainer = build_trainer(only, made.model, made.examples, folder / _CHECKPOINTS,
                                    _Renamed(listener, baseline.tower))
            trainer.resume()
            trained.progress[baseline.tower] = _run(trainer, baseline.tower)
        trained.history.extend({**row, "tower": baseline.tower} for row in trainer.history)
        if TEACHER in trainer.best.dense:
            trainer.best.save(folder / _MODEL)
            trained.baselines.append(replace(made, best=trainer.best))
    return trained


def _run(trainer: Trainer, tower: str) -> dict[str, Any]:
    """Train; a baseline that becomes NaN drops out, as a student would."""
    try:
        trainer.run()
    except NonFiniteError:
        _log.warning("%s became NaN or infinite at step %d and drops out", tower, trainer.step)
        return {**trainer.summary()[TEACHER], "status": "diverged", "ended_step": trainer.step}
    return trainer.summary()[TEACHER]


def load_gbdt_baselines(plan: Plan, examples: Examples, run: Path, state: Path,
                        towers: list[str]) -> list[GbdtBaseline]:
    """The baselines on leaves of a finished run.

    Args:
        plan: of the run.
        examples: as the other towers read them.
        run: its folder.
        state: `paths.state`.
        towers: of its report; one that dropped out is not among them.

    Raises:
        DataError: trees or weights are missing.
    """
    found = []
    for baseline in plan.baselines:
        if baseline.gbdt is None or baseline.tower not in towers:
            continue
        folder = _folder(run, baseline)
        features = TreeFeatures(examples, baseline.gbdt.most_categories)
        made = _of_trees(plan, baseline, Trees(folder / _TREES), features, examples, state)
        found.append(replace(made, best=load_best_weights(folder / _MODEL, [TEACHER])))
    return found


def _folder(run: Path, baseline: BaselinePlan) -> Path:
    return run / "baselines" / baseline.name
