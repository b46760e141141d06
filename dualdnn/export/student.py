"""Exports one student of a trained model as the next version of a SavedModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.encoding import refuse_changed
from dualdnn.data.examples import Examples
from dualdnn.data.lake import Lake
from dualdnn.data.pseudonyms import key_from_environment
from dualdnn.evaluation.metrics import sigmoid
from dualdnn.export.saved_model import Exported, Sample, example_request, publish
from dualdnn.export.serving_graph import ServingGraph, raw_features
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.models.towers import tower_input
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.scoring import Scorer

_SAMPLE_ROWS = 512
_EXAMPLE_REQUESTS = 3
_REFERENCE_ROWS = 200_000


def serving_graph(model: DualDNN, examples: Examples, tower: str) -> ServingGraph:
    """The graph of one tower with the weights now in the model.

    A student's knows nothing of privileged fields. The teacher's asks for them, to be timed; of a
    pool whose members' logits are given, these are zeros in it.
    """
    is_teacher = tower == TEACHER
    schema = examples.schema if is_teacher else examples.schema.public
    readers = model.readers_of(tower)
    network = model.teacher if is_teacher else model.students[tower].network
    reads_linear = is_teacher or network.linear
    step = tf.constant(0, tf.int64)

    def score(rows: tf.Tensor, dense: tf.Tensor | None = None) -> tf.Tensor:
        inputs = [tower_input(reader.lookup(rows, dense, linear=reads_linear))
                  for reader in readers]
        scores = tf.zeros((tf.shape(rows)[0], len(model.scored))) if is_teacher else None
        return model.answer(tower, inputs, step, scores=scores).logits

    variables = []
    for reader in readers:
        variables += [part.table.vectors for part in reader.parts]
        variables += reader.linear_variables() if reads_linear else []
        variables += reader.kernels()

    return ServingGraph(
        schema=schema, row_map=examples.row_map.only(examples.schema, schema), score=score,
        variables=[*variables, *network.trainable_variables],
        negative_rate=examples.negative_rate,
    )


def _served_logits(model: DualDNN, examples: Examples, tower: str,
                   index: np.ndarray) -> np.ndarray:
    """What the model in memory says, corrected for the sampling of negatives."""
    logits = Scorer(model)(examples.rows[index], [tower], examples.dense[index])[tower]
    if examples.negative_rate == 1.0:
        return logits
    return logits + np.float32(np.log(examples.negative_rate))


def _sample(lake: Lake, model: DualDNN, examples: Examples, tower: str) -> Sample:
    """Rows of the newest day of the test part, else of training, raw and encoded."""
    part = examples.split.test if len(examples.split.test) else examples.split.train
    starts = np.cumsum([0, *(day.rows for day in examples.days)])
    day = int(np.searchsorted(starts, part[-1], side="right")) - 1
    index = part[part >= starts[day]][-_SAMPLE_ROWS:]
    schema = examples.schema.public
    refuse_changed(lake, examples.days[day])
    table = lake.read(examples.days[day].day, schema).take(index - starts[day])
    rows, dense = examples.public_inputs(index)
    key = key_from_environment() if schema.pii_columns else None
    return Sample(features=raw_features(schema, table, key), rows=rows, dense=dense,
                  logits=_served_logits(model, examples, tower, index))


def independent_draws(hits: np.ndarray, users: np.ndarray) -> float:
    """How many single rows would know a share as well as these, whose users come with many.

    All rows of a new user miss what is known of users. The variance of the share over users is set
    against that of single rows (the inverse of Kish's design effect); where all rows are alike, and
    nothing can be said of it, every user counts as one.

    Args:
        hits: (n,) bool.
        users: (n,) codes from 0 on.
    """
    if not len(hits):
        return 0.0
    share = float(hits.mean())
    by_user = np.bincount(users, hits - share)
    variance = float(np.square(by_user).sum()) / len(hits) ** 2
    if variance == 0:
        return float(len(by_user))
    return min(share * (1 - share) / variance, float(len(hits)))


def reference_histograms(
    examples: Examples, index: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """What scores and fields looked like when the version was made, for later comparison.

    Args:
        examples: the data.
        index: (n,) row numbers.
        probabilities: (n,) scores of these rows, as served.

    Returns:
        `probability`: counts in 20 equal bins of [0, 1]. `fields`: by name the share of missing
        or unseen values (`oov`) and how many independent `draws` of it these rows are worth, of a
        number field also the counts of its buckets. Fields that only the teacher reads are left
        out.
    """
    users = np.arange(len(index)) if examples.groups is None else np.unique(
        examples.groups[index], return_inverse=True)[1]
    fields: dict[str, Any] = {}
    for position, field in enumerate(examples.schema.fields):
        if field.privileged:
            continue
        rows = examples.rows[index, examples.columns(field.name).start]
        oov = int(examples.row_map.oov_rows[position])
        fields[field.name] = {"oov": float(np.mean(rows == oov)) if len(rows) else None,
                              "draws": independent_draws(rows == oov, users)}
        if field.kind == "number":
            found = examples.row_map.buckets_of_numbers(position,
                                                        examples.numbers(field.name, index))
            buckets = len(examples.row_map.boundaries_of(position)) + 1
            counts = np.bincount(found[found >= 0], minlength=buckets)
            fields[field.name]["buckets"] = counts.tolist()
    counts, _ = np.histogram(probabilities, bins=20, range=(0.0, 1.0))
    return {"rows": len(index), "probability": counts.tolist(), "fields": fields}


def summed_histograms(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Those of several parts as one, as `reference_histograms` of all their rows would be.

    Args:
        parts: at least one, all with the same fields.
    """
    rows = [part["rows"] for part in parts]
    fields: dict[str, Any] = {}
    for name, first in parts[0]["fields"].items():
        those = [part["fields"][name] for part in parts]
        seen = [(one["oov"], count) for one, count in zip(those, rows, strict=True) if count]
        fields[name] = {"oov": sum(share * count for share, count in seen) / sum(rows)
                        if seen else None,
                        "draws": sum(one.get("draws", count)
                                     for one, count in zip(those, rows, strict=True))}
        if "buckets" in first:
            fields[name]["buckets"] = np.sum([one["buckets"] for one in those], axis=0).tolist()
    return {"rows": sum(rows), "fields": fields,
            "probability": np.sum([part["probability"] for part in parts], axis=0).tolist()}


def export_student(
    *,
    model: DualDNN,
    best: BestWeights,
    examples: Examples,
    lake: Lake,
    student: str,
    folder: Path,
    manifest: Mapping[str, Any],
    reference: Mapping[str, Any] | None = None,
) -> tuple[Exported, list[dict[str, Any]]]:
    """Publish a student and score example requests through what was published.

    Args:
        model: ends with the student's best weights.
        best: the best weights of every tower.
        examples: the data that the model was trained on.
        lake: where the examples come from; their raw values are the requests.
        student: name of the tower.
        folder: `exported_models/NAME`; the version becomes a folder below it.
        manifest: lineage and metrics to write into the manifest.
        reference: histograms to write beside them; None for those of the newest rows of the test
            part, see `reference_histograms`.

    Returns:
        the version, and up to three of `request` with the served `probability`.

    Raises:
        DataError: the SavedModel answers differently from the model in memory.
        LockError: another process publishes below the same folder.
    """
    best.load_into(model, student)
    sample = _sample(lake, model, examples, student)
    if reference is None:
        part = examples.split.test if len(examples.split.test) else examples.split.train
        index = part[-_REFERENCE_ROWS:]
        probabilities = sigmoid(_served_logits(model, examples, student, index))
        reference = reference_histograms(examples, index, probabilities)
    exported = publish(graph=serving_graph(model, examples, student), sample=sample,
                       folder=folder, manifest={**manifest, "reference": reference})
    served = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    answers = []
    for position in range(min(_EXAMPLE_REQUESTS, len(sample.logits))):
        inputs = {name: tf.constant(values[position : position + 1],
                                    tf.string if values.dtype == object else tf.float32)
                  for name, values in sample.features.items()}
        answers.append({"request": example_request(examples.schema.public, sample, position),
                        "probability": float(served(**inputs)["probability"][0])})
    return exported, answers
