"""Exporting one student of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.examples import Examples
from dualdnn.export.saved_model import Sample, example_request, publish
from dualdnn.export.serving_graph import raw_features
from dualdnn.models.dual_dnn import DualDNN
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.scoring import Scorer
from pipelines.build import serving_graph
from pipelines.plan import Plan

_SAMPLE_ROWS = 512


def _sample(plan: Plan, model: DualDNN, examples: Examples, tower: str) -> Sample:
    """Rows of the newest day of the test part, else of training, raw and encoded."""
    part = examples.split.test if len(examples.split.test) else examples.split.train
    starts = np.cumsum([0, *(day.rows for day in examples.days)])
    day = int(np.searchsorted(starts, part[-1], side="right")) - 1
    index = part[part >= starts[day]][-_SAMPLE_ROWS:]
    table = plan.lake.read(examples.days[day].day, plan.schema).take(index - starts[day])
    return Sample(
        features=raw_features(examples.schema, table), rows=examples.rows[index],
        logits=Scorer(model)(examples.rows[index], [tower])[tower],
    )


def export_student(
    *,
    plan: Plan,
    model: DualDNN,
    best: BestWeights,
    examples: Examples,
    student: str,
    folder: Path,
    lineage: Mapping[str, Any],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Publish the student and score three example requests through what was published.

    Args:
        plan: of the run.
        model: its towers.
        best: their best weights.
        examples: its data.
        student: name of the tower.
        folder: `exported_models/NAME`.
        lineage: goes into the manifest.

    Returns:
        the `export` section of the report, and requests with the served probability and the
        label.

    Raises:
        DataError: the SavedModel answers differently from the model in memory.
    """
    best.load_into(model, student)
    sample = _sample(plan, model, examples, student)
    graph = serving_graph(model, examples, student)
    made = publish(graph=graph, sample=sample, folder=folder, manifest=lineage)
    served = tf.saved_model.load(str(made.path)).signatures["serving_default"]
    answers = []
    for position in range(min(3, len(sample.logits))):
        request = example_request(examples.schema, sample, position)
        inputs = {name: tf.constant(values[position : position + 1],
                                    tf.string if values.dtype == object else tf.float32)
                  for name, values in sample.features.items()}
        answers.append({"request": request,
                        "probability": float(served(**inputs)["probability"][0])})
    section = {"name": folder.name, "student": student, "path": str(made.path),
               "version": made.version, "parity_max_abs": made.parity_max_abs,
               "bytes": made.bytes}
    return section, answers
