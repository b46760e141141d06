"""Trains one configuration in this process and scores a part: what the quality tables share."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.data.examples import Examples
from dualdnn.training.measure import score_with_best
from dualdnn.training.trainer import Trainer
from pipelines.build import build_model, build_trainer, open_plan_data
from pipelines.compose import resolved
from pipelines.plan import Plan, plan_from

_CONF = str(Path(__file__).resolve().parents[2] / "conf")
Students = Mapping[str, Mapping[str, Any]]
# Of the default feed.
_ROWS_A_USER, _ROWS_A_NEW_ITEM = 100, 4000


def feed_overrides(regime: str, rows: int) -> list[str]:
    """A simulated feed with as many rows a user and an item as the default one has."""
    return ["data=simulated_feed", f"data.source.regime={regime}", f"data.source.rows={rows}",
            f"data.source.users={max(rows // _ROWS_A_USER, 2)}",
            f"data.source.new_items_a_day={max(rows // _ROWS_A_NEW_ITEM, 1)}"]


def checked_plan(overrides: Sequence[str],
                 students: Students | None = None) -> tuple[Plan, dict[str, Any]]:
    """The plan that `python -m pipelines.train OVERRIDES` would run.

    `students` takes the place of files under student/: their keys by name.
    """
    with initialize_config_dir(_CONF, version_base="1.3"):
        config = compose("train", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        settings = resolved(config)
    if students is not None:
        settings |= {"students": list(students), "student_configs": dict(students)}
    return plan_from(settings), settings


def open_data(overrides: Sequence[str],
              students: Students | None = None) -> tuple[Plan, Examples]:
    """The plan and its data."""
    plan, settings = checked_plan(overrides, students)
    return plan, open_plan_data(plan, Path(settings["paths"]["state"]))


def train_plan(plan: Plan, examples: Examples) -> Trainer:
    """Train every tower to its best weights; nothing is kept on disk."""
    with tempfile.TemporaryDirectory() as scratch:
        model = build_model(plan, examples.schema, examples.row_map)
        trainer = build_trainer(plan, model, examples, Path(scratch))
        trainer.run()
    return trainer


def train(overrides: Sequence[str]) -> tuple[Trainer, Examples]:
    """Train what `python -m pipelines.train OVERRIDES` would."""
    plan, examples = open_data(overrides)
    return train_plan(plan, examples), examples


def best_logits(trainer: Trainer, examples: Examples, index: np.ndarray) -> dict[str, np.ndarray]:
    """Logits of every tower at its best."""
    return score_with_best(trainer.model, trainer.best, examples, index)
