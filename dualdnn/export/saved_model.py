"""Writes one tower as a SavedModel, checks it, and publishes it by one rename."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from dualdnn.errors import DataError
from dualdnn.export.serving_graph import ServingGraph
from dualdnn.schema import Schema
from dualdnn.storage import atomic_folder, lock, remove_leftovers, sha256_of_file, write_json

PARITY_TOLERANCE = 1e-6
_WARMUP_ROWS = (1, 100, 500)
_PSEUDONYM_NOTE = (
    "send the pseudonym, not the value: BLAKE2b of its UTF-8 bytes with the key of training, "
    "16 bytes as hex; dualdnn.data.pseudonyms.pseudonym(value, key)"
)


def encoded_inputs(rows: np.ndarray, dense: np.ndarray | None) -> dict[str, np.ndarray]:
    """Inputs of the signature `encoded`, which takes floats only where the schema has some."""
    return {"rows": rows} if dense is None or not dense.shape[1] else {"rows": rows,
                                                                       "dense": dense}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows to check an export with.

    Attributes:
        features: inputs of `serving_default` by field name.
        rows: (n, width) int32, the same examples as rows of the tables.
        logits: (n,) float32, what the model in memory says, corrected for sampling.
        dense: (n, dense_width) float32, or None where the schema has no floats.
    """

    features: Mapping[str, np.ndarray]
    rows: np.ndarray
    logits: np.ndarray
    dense: np.ndarray | None = None

    def encoded(self) -> dict[str, np.ndarray]:
        """Inputs of the signature `encoded`."""
        return encoded_inputs(self.rows, self.dense)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A published version.

    Attributes:
        path: the version's folder.
        version: its number.
        parity_max_abs: largest difference of a probability from memory, over both signatures.
        bytes: size of the folder.
    """

    path: Path
    version: int
    parity_max_abs: float
    bytes: int


def write_saved_model(graph: ServingGraph, folder: Path) -> dict[str, Any]:
    """Save the graph with its signatures into `folder`, which need not exist.

    Returns:
        the signatures.
    """
    signatures = graph.signatures()
    # The gradient functions of the layers are of no use to a server.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(graph, str(folder), signatures=signatures, options=options)
    return signatures


def size_in_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _tensors(features: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values, tf.string if values.dtype == object else tf.float32)
            for name, values in features.items()}


def check_parity(folder: Path, sample: Sample) -> float:
    """Load the SavedModel and compare both signatures with memory.

    Returns:
        the largest absolute difference of a probability.

    Raises:
        DataError: it exceeds `PARITY_TOLERANCE`, or an answer is not a number.
    """
    signatures = tf.saved_model.load(str(folder)).signatures
    expected = tf.sigmoid(sample.logits).numpy()
    answers = {
        "serving_default": signatures["serving_default"](**_tensors(sample.features)),
        "encoded": signatures["encoded"](
            **{name: tf.constant(values) for name, values in sample.encoded().items()}),
    }
    worst = 0.0
    for name, answer in answers.items():
        got = answer["probability"].numpy()
        difference = float(np.max(np.abs(got - expected), initial=0.0))
        # Also where either is NaN.
        if not difference <= PARITY_TOLERANCE:
            raise DataError(
                f"the exported signature `{name}` differs from the model in memory by "
                f"{difference:g}, expected at most {PARITY_TOLERANCE:g}. Nothing was published."
            )
        worst = max(worst, difference)
    return worst


def answer_requests(folder: Path, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Probabilities that a SavedModel answers to single examples; a field left out is missing.

    Args:
        folder: the version.
        requests: by name, field to value or list of values, as `example_request` makes them.

    Raises:
        DataError: a request names a field that the signature does not take.
    """
    if not requests:
        return {}
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    answers = {}
    for name, request in requests.items():
        if unknown := sorted(set(request) - set(specs)):
            raise DataError(f"request `{name}` has the field `{unknown[0]}`, which {folder} does "
                            f"not take; it takes {', '.join(sorted(specs))}.")
        inputs = {}
        for key, spec in specs.items():
            value = request.get(key)
            if spec.dtype == tf.string:
                texts = [str(one) for one in (value if isinstance(value, list) else [value])
                         if one is not None] or [""]
                inputs[key] = tf.constant([texts] if len(spec.shape) == 2 else texts[:1])
            else:
                absent = np.full(spec.shape[1:], np.nan)
                given = absent if value is None else np.asarray(value, np.float32)
                inputs[key] = tf.constant(given[np.newaxis], tf.float32)
        answers[name] = float(signature(**inputs)["probability"][0])
    return answers


def _write_warmup(folder: Path, sample: Sample) -> None:
    """Requests that TF Serving replays at load, so that the first user does not wait."""
    def request(signature: str, inputs: Mapping[str, tf.Tensor]) -> Message:
        protos = {name: tf.make_tensor_proto(value) for name, value in inputs.items()}
        return prediction_log_pb2.PredictionLog(
            predict_log=prediction_log_pb2.PredictLog(
                request=predict_pb2.PredictRequest(
                    model_spec=model_pb2.ModelSpec(signature_name=signature), inputs=protos
                )
            )
        )

    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for rows in _WARMUP_ROWS:
            pick = np.arange(rows) % len(sample.logits)
            features = {name: values[pick] for name, values in sample.features.items()}
            encoded = {name: tf.constant(values[pick])
                       for name, values in sample.encoded().items()}
            for log in (request("serving_default", _tensors(features)),
                        request("encoded", encoded)):
                writer.write(log.SerializeToString())


def _described(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs and outputs of each signature with the names that clients use."""
    def spec(tensor: Any) -> dict[str, Any]:
        return {"dtype": tensor.dtype.name, "shape": list(tensor.shape)}

    return {
        name: {
            "inputs": {key: spec(s) for key, s in f.structured_input_signature[1].items()},
            "outputs": {key: spec(s) for key, s in f.structured_outputs.items()},
        }
        for name, f in signatures.items()
    }


def _input_notes(schema: Schema) -> dict[str, str]:
    """What a client must know of an input beyond its type."""
    return {field.name: _PSEUDONYM_NOTE for field in schema.fields
            if field.pii and not field.cross}


def _next_version(folder: Path) -> int:
    """One more than any version that ever was, pruned ones included."""
    record = folder / ".last_version"
    used = [int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit()]
    last = int(record.read_text()) if record.exists() else 0
    return max([last, *used]) + 1


def publish(
    *,
    graph: ServingGraph,
    sample: Sample,
    folder: Path,
    manifest: Mapping[str, Any],
) -> Exported:
    """Write, check and publish the next version below `folder`.

    The version's folder appears by one rename after the reloaded signatures have answered as
    the model in memory does.

    Args:
        graph: the tower to serve.
        sample: examples for parity and warm-up; at least one.
        folder: `exported_models/NAME`.
        manifest: lineage and metrics; schema, signatures and digests are added.

    Raises:
        DataError: parity fails.
        LockError: another process publishes below the same folder.
    """
    with lock(folder / ".lock", wait=False):
        remove_leftovers(folder)
        version = _next_version(folder)
        target = folder / str(version)
        with atomic_folder(target) as temporary:
            signatures = write_saved_model(graph, temporary)
            parity = check_parity(temporary, sample)
            _write_warmup(temporary, sample)
            digests = {str(path.relative_to(temporary)): sha256_of_file(path)
                       for path in sorted(temporary.rglob("*")) if path.is_file()}
            write_json(temporary / "manifest.json", {
                **manifest, "version": version, "parity_max_abs": parity,
                "schema": graph.schema.to_dict(), "signatures": _described(signatures),
                "sampling_rate": graph.negative_rate, "inputs": _input_notes(graph.schema),
                "sha256": digests,
            })
            # Before the version appears: a number is never given twice, even after a prune.
            write_json(folder / ".last_version", version)
        return Exported(path=target, version=version, parity_max_abs=parity,
                        bytes=size_in_bytes(target))


def example_request(schema: Schema, sample: Sample, position: int) -> dict[str, Any]:
    """One example of the sample as JSON-able values, as a client would send it."""
    request: dict[str, Any] = {}
    for field in schema.fields:
        if field.name not in sample.features:
            continue
        value = sample.features[field.name][position]
        if field.is_categorical:
            request[field.name] = value.tolist() if field.is_list else value
        elif np.isnan(value).any():
            request[field.name] = None
        else:
            request[field.name] = value.astype(float).tolist()
    return request
