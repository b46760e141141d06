"""Exports one student of a trained model as the next version of a SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.examples import Examples
from dualdnn.data.lake import Lake
from dualdnn.evaluation.metrics import sigmoid
from dualdnn.export.saved_model import Exported, Sample, example_request, publish
from dualdnn.export.serving_graph import ServingGraph, raw_features
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.scoring import Scorer

_SAMPLE_ROWS = 512
_EXAMPLE_REQUESTS = 3
_REFERENCE_ROWS = 200_000


def serving_graph(model: DualDNN, examples: Examples, tower: str) -> ServingGraph:
    """The graph of one tower with the weights now in the model."""
    table = model.table_of(tower)
    if tower == TEACHER:
        columns, dense = table.columns(), model.teacher.trainable_variables
    else:
        columns, dense = [table.vectors], model.students[tower].network.trainable_variables

    def score(rows: tf.Tensor) -> tf.Tensor:
        pooled = {table.name: [table.pool(tf.gather(column, rows), rows) for column in columns]}
        return model.forward(pooled, tf.constant(0, tf.int64), [tower])[tower].logits

    return ServingGraph(schema=examples.schema, row_map=examples.row_map, score=score,
                        variables=[*columns, *dense])


def _sample(lake: Lake, model: DualDNN, examples: Examples, tower: str) -> Sample:
    """Rows of the newest day of the test part, else of training, raw and encoded."""
    part = examples.split.test if len(examples.split.test) else examples.split.train
    starts = np.cumsum([0, *(day.rows for day in examples.days)])
    day = int(np.searchsorted(starts, part[-1], side="right")) - 1
    index = part[part >= starts[day]][-_SAMPLE_ROWS:]
    table = lake.read(examples.days[day].day, examples.schema).take(index - starts[day])
    return Sample(
        features=raw_features(examples.schema, table), rows=examples.rows[index],
        logits=Scorer(model)(examples.rows[index], [tower])[tower],
    )


def reference_histograms(
    examples: Examples, index: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """What scores and fields looked like when the version was made, for later comparison.

    Args:
        examples: the data.
        index: (n,) row numbers.
        probabilities: (n,) scores of these rows.

    Returns:
        `probability`: counts in 20 equal bins of [0, 1]. `fields`: by name the share of missing
        or unseen values (`oov`), of a number field also the counts of its buckets.
    """
    fields: dict[str, Any] = {}
    for position, field in enumerate(examples.schema.fields):
        rows = examples.rows[index, examples.columns(field.name).start]
        oov = int(examples.row_map.oov_rows[position])
        fields[field.name] = {"oov": float(np.mean(rows == oov)) if len(rows) else None}
        if field.kind == "number":
            first = int(examples.row_map.bucket_rows[position])
            buckets = len(examples.row_map.boundaries_of(position)) + 1
            counts = np.bincount(rows[rows != oov] - first, minlength=buckets)
            fields[field.name]["buckets"] = counts.tolist()
    counts, _ = np.histogram(probabilities, bins=20, range=(0.0, 1.0))
    return {"rows": len(index), "probability": counts.tolist(), "fields": fields}


def export_student(
    *,
    model: DualDNN,
    best: BestWeights,
    examples: Examples,
    lake: Lake,
    student: str,
    folder: Path,
    manifest: Mapping[str, Any],
) -> tuple[Exported, list[dict[str, Any]]]:
    """Publish a student and score example requests through what was published.

    Args:
        model: ends with the student's best weights.
        best: the best weights of every tower.
        examples: the data that the model was trained on.
        lake: where the examples come from; their raw values are the requests.
        student: name of the tower.
        folder: `exported_models/NAME`; the version becomes a folder below it.
        manifest: lineage and metrics to write into the manifest, beside the histograms of the
            newest rows of the test part, see `reference_histograms`.

    Returns:
        the version, and up to three of `request` with the served `probability`.

    Raises:
        DataError: the SavedModel answers differently from the model in memory.
        LockError: another process publishes below the same folder.
    """
    best.load_into(model, student)
    sample = _sample(lake, model, examples, student)
    part = examples.split.test if len(examples.split.test) else examples.split.train
    index = part[-_REFERENCE_ROWS:]
    logits = Scorer(model)(examples.rows[index], [student])[student]
    reference = reference_histograms(examples, index, sigmoid(logits))
    exported = publish(graph=serving_graph(model, examples, student), sample=sample,
                       folder=folder, manifest={**manifest, "reference": reference})
    served = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    answers = []
    for position in range(min(_EXAMPLE_REQUESTS, len(sample.logits))):
        inputs = {name: tf.constant(values[position : position + 1],
                                    tf.string if values.dtype == object else tf.float32)
                  for name, values in sample.features.items()}
        answers.append({"request": example_request(examples.schema, sample, position),
                        "probability": float(served(**inputs)["probability"][0])})
    return exported, answers
