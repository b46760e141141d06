"""Measuring every tower with its best weights on one part of the data."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.evaluation.metrics import evaluate_scores
from dualdnn.evaluation.slices import Categories, evaluate_slices
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.schema import Field
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.scoring import Scorer

# What changes when negatives are left out, some more than others.
_OF_ALL_ROWS = ("auc", "log_loss", "normalized_entropy", "calibration", "ece")


def score_with_best(
    model: DualDNN, best: BestWeights, examples: Examples, index: np.ndarray
) -> dict[str, np.ndarray]:
    """Logits (n,) float32 of every tower that has best weights; they end up in the model.

    In the order of the model's towers: best weights of students that start late come last.
    """
    scorer = Scorer(model)
    rows, dense, scores = examples.rows[index], examples.dense[index], examples.scores_at(index)
    logits = {}
    for tower in (one for one in model.towers if one in best.dense):
        best.load_into(model, tower)
        logits.update(scorer(rows, [tower], dense, scores))
    return logits


def measure_members(model: DualDNN, best: BestWeights, examples: Examples,
                    index: np.ndarray) -> dict[str, dict[str, Any]]:
    """Metrics of every member of a pool of teachers, and its mean `share` of the pool's logit.

    Empty where the teacher is no pool. The arguments are those of `measure`.
    """
    best.load_into(model, TEACHER)
    found = Scorer(model).members(examples.rows[index], examples.dense[index],
                                  examples.scores_at(index))
    groups = None if examples.groups is None else examples.groups[index]
    return {name: {**_evaluated(examples, index, logits, groups, {}, {})[0],
                   **({"share": float(shares.mean())} if len(index) else {})}
            for name, (logits, shares) in found.items()}


def count_parameters(model: DualDNN, tower: str) -> dict[str, int]:
    """Parameters that a served tower has; hint projections are not among them."""
    readers = model.readers_of(tower)
    network = model.teacher if tower == TEACHER else model.students[tower].network
    reads_vectors = getattr(network, "reads_vectors", True)  # a logistic regression does not
    tables = [part.table.vectors for reader in readers for part in reader.parts if reads_vectors]
    if tower == TEACHER or network.linear:
        tables += [linear for reader in readers for linear in reader.linear_variables()]
    dense = network.count_params()
    dense += sum(int(np.prod(kernel.shape)) for reader in readers for kernel in reader.kernels())
    embedding = sum(int(tf.size(table)) for table in tables)
    return {"params_dense": dense, "params_embedding": embedding, "bytes_dense": 4 * dense}


def weights_sha256(best: BestWeights, tower: str) -> str:
    """Hex digest of a tower's best weights and its embeddings, bit for bit."""
    digest = hashlib.sha256()
    for value in best.of_tower(tower):
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _identity(fields: Sequence[Field], side: str) -> str | None:
    """The field that says which user or item it is: the first `id` of that side."""
    return next((f.name for f in fields if f.kind == "id" and f.side == side and not f.cross),
                None)


def known_masks(examples: Examples, index: np.ndarray) -> dict[str, np.ndarray]:
    """Slices (n,) bool of rows (n,) whose user, and whose item, has a row of its own or has not."""
    masks = {}
    for side in ("user", "item"):
        if name := _identity(examples.schema.fields, side):
            known = examples.is_known(name, index)
            masks.update({f"known_{side}": known, f"new_{side}": ~known})
    return masks


def categories_of(examples: Examples, name: str, index: np.ndarray) -> Categories:
    """The values of a categorical field, or the buckets of a number, in the chosen rows."""
    field = next((f for f in examples.schema.fields if f.name == name), None)
    if field is None:
        raise DataError(
            f"evaluation.slices names `{name}`, which is not a field of this run; it has "
            f"{', '.join(f.name for f in examples.schema.fields)}."
        )
    if field.pii or field.is_vector_column:
        what = "a column of vectors" if field.is_vector_column else "pii, which is in no report"
        raise DataError(f"evaluation.slices names `{name}`, which is {what}. Slice by another "
                        "field.")
    if field.kind == "number":
        position = examples.schema.fields.index(field)
        bounds = [-np.inf, *examples.row_map.boundaries_of(position).tolist(), np.inf]
        codes = examples.row_map.buckets_of_numbers(position, examples.numbers(name, index))
        return Categories(codes=codes, values=[f"[{a:g}, {b:g})"
                                               for a, b in itertools.pairwise(bounds)])
    codes = np.full((len(index), field.width), -1, np.int64)
    code_of: dict[str, int] = {}
    start = 0
    for day in examples.days:
        inside = np.flatnonzero((index >= start) & (index < start + day.rows))
        texts = day.values()[day.section(name)]
        # Then missing, then (as -1) padding: neither has a value.
        mapped = [*(code_of.setdefault(text, len(code_of)) for text in texts), -1, -1]
        codes[inside] = np.array(mapped)[day.local_cells(name)[index[inside] - start]]
        start += day.rows
    return Categories(codes=codes, values=list(code_of))


def _reweighted(numbers: dict[str, Any]) -> dict[str, Any]:
    """Metrics of which those that depend on which negatives were kept are the weighted ones.

    Grouped AUC counts rows, and stays as it is.
    """
    weighted = numbers.pop("weighted", None) or {}
    kept = {key: value for key, value in numbers.items() if key not in _OF_ALL_ROWS}
    return kept | {key: weighted[key] for key in _OF_ALL_ROWS if key in weighted}


def measure(
    model: DualDNN,
    best: BestWeights,
    examples: Examples,
    index: np.ndarray,
    *,
    slices: Sequence[str] = (),
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Metrics, slices, sizes and weight digests of every tower.

    Where negatives were sampled, the metrics are those of the scores that are served, corrected
    by `Examples.negative_rate`, on rows of which every negative stands for 1 / its rate.

    Args:
        model: the towers; it ends with the last tower's best weights.
        best: of training.
        examples: the data.
        index: (n,) row numbers of the part to measure.
        slices: fields by whose values to slice, beside new and known users and items.

    Returns:
        by tower its numbers, as the report holds them, and its logits (n,) as trained, without
        the correction for sampling.

    Raises:
        DataError: a slice is not a field of this run, or is `pii`.
    """
    logits = score_with_best(model, best, examples, index)
    groups = None if examples.groups is None else examples.groups[index]
    masks = known_masks(examples, index)
    categories = {name: categories_of(examples, name, index) for name in slices}
    measured: dict[str, dict[str, Any]] = {}
    for tower, scores in logits.items():
        numbers, of_slices = _evaluated(examples, index, scores, groups, masks, categories)
        measured[tower] = {
            **numbers, **count_parameters(model, tower),
            "weights_sha256": weights_sha256(best, tower), "slices": of_slices,
        }
    return measured, logits


def _evaluated(
    examples: Examples, index: np.ndarray, logits: np.ndarray, groups: np.ndarray | None,
    masks: dict[str, np.ndarray], categories: dict[str, Categories],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The metrics of all rows and of each slice."""
    labels = examples.labels[index]
    weights = None if examples.weights is None else examples.weights[index]

    def once(
        scores: np.ndarray, of_rows: np.ndarray | None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        return (evaluate_scores(labels, scores, groups=groups, weights=of_rows),
                evaluate_slices(labels, scores, masks=masks, categories=categories,
                                groups=groups, weights=of_rows))

    if examples.sampling_rates is None:
        return once(logits, weights)
    corrected = logits + np.float32(np.log(examples.negative_rate))
    whole, sliced = once(corrected, examples.stands_for(index))
    numbers = {name: _reweighted(one) for name, one in {"": whole, **sliced}.items()}
    if weights is not None:
        whole, sliced = once(corrected, examples.population_weights(index))
        for name, one in {"": whole, **sliced}.items():
            if "weighted" in one:
                numbers[name]["weighted"] = one["weighted"]
    return numbers.pop(""), numbers
