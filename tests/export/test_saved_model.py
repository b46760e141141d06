import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from dualdnn.export import saved_model
from dualdnn.export.saved_model import example_request, publish, write_saved_model
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.storage import sha256_of_file
from dualdnn.training.scoring import Scorer
from pipelines.build import serving_graph
from tests.tiny_run import SCHEMA


@pytest.fixture(scope="module")
def made(graph, sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "tiny_dev"
    return publish(graph=graph, sample=sample, folder=folder, manifest={"metrics": {"auc": 0.7}})


def test_a_version_answers_as_memory_does(made, sample):
    assert made.version == 1
    assert made.path.name == "1"
    assert 0 <= made.parity_max_abs <= 1e-6
    assert made.bytes == sum(p.stat().st_size for p in made.path.rglob("*") if p.is_file())
    signatures = tf.saved_model.load(str(made.path)).signatures
    raw = signatures["serving_default"](**saved_model._tensors(sample.features))
    encoded = signatures["encoded"](rows=tf.constant(sample.rows))
    np.testing.assert_array_equal(raw["logit"], encoded["logit"])
    np.testing.assert_allclose(raw["logit"], sample.logits, atol=1e-5)


def test_no_teacher_inside(made, model):
    listed = tf.train.list_variables(str(made.path / "variables" / "variables"))
    shapes = [shape for name, shape in listed if "tower_variables" in name]
    expected = [v.shape.as_list() for v in model.students["s0"].network.trainable_variables]
    rows = model.embedding.tables["main"].num_rows
    # The shared table's vectors and first-order weights; nothing else of the teacher.
    assert sorted(shapes) == sorted([*expected, [rows, 4], [rows, 1]])
    loaded = tf.saved_model.load(str(made.path))
    for function in loaded.signatures.values():
        captured = {tuple(tf.shape(v).numpy().tolist()) for v in function.variables}
        assert captured == {tuple(shape) for shape in shapes}
    text = (made.path / "saved_model.pb").read_bytes()
    for word in (b"teacher", b"hint", b"alone"):
        assert word not in text, word


def test_manifest_describes_the_version_and_every_file(made):
    manifest = json.loads((made.path / "manifest.json").read_text())
    files = {str(p.relative_to(made.path)) for p in made.path.rglob("*") if p.is_file()}
    assert set(manifest["sha256"]) == files - {"manifest.json"}
    for name, digest in manifest["sha256"].items():
        assert sha256_of_file(made.path / name) == digest
    assert {"saved_model.pb", "assets.extra/tf_serving_warmup_requests"} <= files
    assert manifest["schema"]["fields"][2]["name"] == "tags"
    assert (manifest["version"], manifest["metrics"]) == (1, {"auc": 0.7})
    outputs = {name: {"dtype": "float32", "shape": [None]} for name in ("probability", "logit")}
    assert manifest["signatures"] == {
        "serving_default": {"outputs": outputs, "inputs": {
            "user": {"dtype": "string", "shape": [None]},
            "item": {"dtype": "string", "shape": [None]},
            "tags": {"dtype": "string", "shape": [None, None]},
            "age": {"dtype": "float32", "shape": [None]}}},
        "encoded": {"outputs": outputs, "inputs": {"rows": {"dtype": "int32", "shape": [None, 6]}}},
    }


def test_warm_up_requests_are_prediction_logs_that_replay(made, sample):
    signatures = tf.saved_model.load(str(made.path)).signatures
    path = made.path / "assets.extra" / "tf_serving_warmup_requests"
    seen = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        asked = log.predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in asked.inputs.items()}
        name = asked.model_spec.signature_name
        answer = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        rows = len(answer["logit"])
        seen.append((name, rows))
        expected = np.resize(sample.logits, rows)
        np.testing.assert_allclose(answer["logit"], expected, atol=1e-5)
    assert seen == [(name, rows) for rows in (1, 100, 500)
                    for name in ("serving_default", "encoded")]


def test_an_example_request_is_plain_json(sample):
    request = json.loads(json.dumps(example_request(SCHEMA, sample, 0)))
    assert list(request) == ["user", "item", "tags", "age"]
    assert len(request["tags"]) == 3
    missing = int(np.flatnonzero(np.isnan(sample.features["age"]))[0])
    assert example_request(SCHEMA, sample, missing)["age"] is None


_SERVER = """
import json, sys
import numpy as np

for absent in ("dualdnn", "tf_keras", "keras", "tensorflow_recommenders"):
    sys.modules[absent] = None  # importing it raises
import tensorflow as tf

rows = np.load(sys.argv[1])
answers = []
for folder in sys.argv[2:]:
    found = tf.saved_model.load(folder).signatures["encoded"](rows=tf.constant(rows))
    # As TensorFlow Serving loads it: graph and session, tensors by name.
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        signature = meta.signature_def["serving_default"]
        feed = {"user": ["u3", "nobody"], "item": ["7", ""], "tags": [["t1"], [""]],
                "age": [30.0, float("nan")]}
        raw = session.run(signature.outputs["logit"].name,
                          {signature.inputs[name].name: value for name, value in feed.items()})
    answers.append([found["logit"].numpy().tolist(), raw.tolist()])
print(json.dumps(answers))
"""


def test_it_is_served_where_neither_dualdnn_nor_keras_can_be_imported(
        made, model, examples, sample, tmp_path):
    # The teacher as well: its CIN has a gradient of its own, which no server knows.
    write_saved_model(serving_graph(model, examples, TEACHER), tmp_path / "teacher")
    np.save(tmp_path / "rows.npy", sample.rows)
    folders = {"s0": made.path, TEACHER: tmp_path / "teacher"}
    done = subprocess.run(
        [sys.executable, "-c", _SERVER, str(tmp_path / "rows.npy"), *map(str, folders.values())],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (encoded, raw), tower in zip(json.loads(done.stdout), folders, strict=True):
        np.testing.assert_allclose(encoded, Scorer(model)(sample.rows, [tower])[tower], atol=1e-5)
        here = serving_graph(model, examples, tower)
        rows = here.rows_of({"user": tf.constant(["u3", "nobody"]), "item": tf.constant(["7", ""]),
                             "tags": tf.constant([["t1"], [""]]),
                             "age": tf.constant([30.0, np.nan])})
        np.testing.assert_allclose(raw, here.score(rows), atol=1e-5)
