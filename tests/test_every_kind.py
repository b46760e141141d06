"""All kinds of fields in one model: trained, resumed, measured and served."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import json

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.data.lake import Lake
from dualdnn.data.pseudonyms import pseudonym
from dualdnn.distillation.objective import Objective
from dualdnn.errors import DataError
from dualdnn.export.saved_model import encoded_inputs
from dualdnn.export.serving_graph import raw_features
from dualdnn.export.student import export_student, serving_graph
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.measure import measure
from tests.rich_feed import KEY, open_rich
from tests.tiny_run import EVERYTHING, anew, build_model, build_trainer, weights_of

SOFT = Objective(soft_label_weight=1.0)


@pytest.fixture(autouse=True, scope="module")
def key():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALDNN_PII_KEY", KEY)
        yield KEY.encode()


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    return tmp_path_factory.mktemp("rich")


@pytest.fixture(scope="module")
def examples(feed, key):
    return open_rich(feed)


def trained(examples, folder, *, students=1, alone=False, epochs=2, seed=1):
    model = build_model(examples, [EVERYTHING, *[SOFT] * 4][:students], alone=alone)
    trainer = build_trainer(examples, model, folder, epochs=epochs, seed=seed)
    return model, trainer


@pytest.fixture(scope="module")
def run(examples, tmp_path_factory):
    model, trainer = trained(examples, tmp_path_factory.mktemp("run"), students=2, alone=True)
    frozen = model.embedding.tables["vectors_item_vec"].vectors.numpy()
    trainer.run()
    return model, trainer, frozen


@pytest.mark.parametrize("students", [1, pytest.param(5, marks=pytest.mark.prove)])
def test_the_teacher_is_bit_identical_with_students(examples, tmp_path, students):
    lonely, trainer = trained(examples, tmp_path / "0", students=0)
    trainer.run()
    crowded, trainer = trained(examples, tmp_path / "1", students=students, alone=True)
    trainer.run()
    for mine, theirs in zip(weights_of(lonely, TEACHER), weights_of(crowded, TEACHER),
                            strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_resumed_run_ends_with_the_same_bits(examples, tmp_path):
    class Stop(Exception):
        pass

    class Listener:
        def on_step(self, step, steps):
            if step == 5:
                raise Stop

        def on_record(self, record):
            pass

    model, trainer = trained(examples, tmp_path / "whole", alone=True)
    trainer.run()
    expected = {tower: weights_of(model, tower) for tower in model.towers}
    with pytest.raises(Stop):
        anew(trainer, tmp_path / "cut", listener=Listener()).run()
    again = anew(trainer, tmp_path / "cut")
    assert again.resume()
    again.run()
    for tower, weights in expected.items():
        for mine, theirs in zip(weights, weights_of(model, tower), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_all_that_should_learn_does_and_frozen_vectors_do_not(examples, run):
    model, _, frozen = run
    fresh = build_model(examples, [EVERYTHING], alone=True)
    for tower in (TEACHER, "alone"):
        now, before = (m.embeddings_of(tower)[0] for m in (model, fresh))
        for mine, theirs in zip(now.trained_variables(), before.trained_variables(), strict=True):
            assert np.any(mine.numpy() != theirs.numpy()), mine.name
    np.testing.assert_array_equal(model.embedding.tables["vectors_item_vec"].vectors, frozen)
    np.testing.assert_array_equal(model.embedding.tables["vectors_item_vec"].vectors,
                                  examples.row_map.vectors["vectors_item_vec"])


def test_privileged_fields_reach_the_teacher_alone(examples, run):
    model, _, _ = run
    index = np.arange(40)
    batch = examples.batch(index)
    changed = batch.rows.copy(), batch.dense.copy()
    for field in examples.schema.fields:
        if field.privileged:
            changed[0][:, examples.schema.cells(field.name)] = 1
            changed[1][:, examples.schema.dense(field.name)] = 5.0

    def logits(rows, dense):
        outputs = model.forward(model.lookup(tf.constant(rows), tf.constant(dense)),
                                tf.constant(0, tf.int64))
        return {tower: output.logits.numpy() for tower, output in outputs.items()}

    before, after = logits(batch.rows, batch.dense), logits(*changed)
    for tower in model.towers:
        if tower == TEACHER:
            assert np.all(before[tower] != after[tower])
        else:
            np.testing.assert_array_equal(before[tower], after[tower])


@pytest.fixture(scope="module")
def served(examples, feed, run, tmp_path_factory):
    model, trainer, _ = run
    folder = tmp_path_factory.mktemp("exported")
    exported, answers = export_student(
        model=model, best=trainer.best, examples=examples, lake=Lake(feed / "lake"), student="s0",
        folder=folder / "rich_dev", manifest={})
    return exported, answers


def test_a_student_is_served_as_it_was_trained_without_privileged_fields(examples, served, feed):
    exported, _ = served
    assert exported.parity_max_abs <= 1e-6
    signatures = tf.saved_model.load(str(exported.path)).signatures
    inputs = {name: set(f.structured_input_signature[1]) for name, f in signatures.items()}
    public = ["user", "item", "hour", "seen", "related", "city", "age", "price", "balance", "cover"]
    assert inputs == {"serving_default": set(public), "encoded": {"rows", "dense"}}
    text = (exported.path / "saved_model.pb").read_bytes()
    for word in (b"dwell", b"touch", b"next", b"stop", b"privileged", b"teacher"):
        assert word not in text, word
    listed = tf.train.list_variables(str(exported.path / "variables" / "variables"))
    shapes = [tuple(shape) for name, shape in listed if "tower_variables" in name]
    # The teacher's table of size 3, of 4 rows, is not among them; the file's vectors are.
    assert (4, 3) not in shapes
    assert shapes.count(examples.row_map.vectors["vectors_item_vec"].shape) == 2


def test_raw_features_give_the_rows_and_floats_of_training(examples, run, feed, key):
    model, _, _ = run
    for tower, schema in (("s0", examples.schema.public), (TEACHER, examples.schema)):
        graph, start = serving_graph(model, examples, tower), 0
        for day in examples.days:
            index = np.arange(start, start + day.rows)
            features = raw_features(schema, Lake(feed / "lake").read(day.day, schema), key)
            given = {name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
                     for name, value in features.items()}
            rows, dense = ((examples.rows[index], examples.dense[index]) if tower == TEACHER
                           else examples.public_inputs(index))
            np.testing.assert_array_equal(graph.rows_of(given), rows)
            np.testing.assert_array_equal(graph.dense_of(given), dense)
            assert set(encoded_inputs(rows, dense)) == {"rows", "dense"}
            start += day.rows


def test_no_file_of_a_version_holds_a_personal_value_or_the_key(served, key):
    exported, answers = served
    names = [f"person-{i}" for i in range(12)]
    pseudonyms = {pseudonym(name, key) for name in names} | {""}
    assert {answer["request"]["user"] for answer in answers} <= pseudonyms
    for path in exported.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"person-" not in content, path
            assert key not in content, path
    manifest = json.loads((exported.path / "manifest.json").read_text())
    assert set(manifest["inputs"]) == {"user"}
    assert manifest["inputs"]["user"].startswith("send the pseudonym, not the value: BLAKE2b")
    warm_up = (exported.path / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    assert any(name.encode() in warm_up for name in pseudonyms if name)
    assert set(manifest["reference"]["fields"]) == {
        field["name"] for field in manifest["schema"]["fields"]}


def test_every_tower_is_measured_and_sliced(examples, run):
    model, trainer, _ = run
    slices = ["city", "age", "price", "hour", "item_x_city", "item_vec", "seen"]
    measured, _ = measure(model, trainer.best, examples, examples.split.test, slices=slices)
    for tower, numbers in measured.items():
        names = {name.split("=")[0] for name in numbers["slices"]}
        assert set(slices) <= names, tower
        assert numbers["slices"]["price=(missing)"]["rows"] == int(np.isnan(
            examples.numbers("price", examples.split.test)).sum())
    # Whoever is served without the privileged fields has fewer parameters.
    assert measured["s0"]["params_embedding"] < measured[TEACHER]["params_embedding"]


@pytest.mark.parametrize(("name", "what"), [
    ("user", "pii, which is in no report"), ("user_x_hour", "pii, which is in no report"),
    ("cover", "a column of vectors"),
])
def test_personal_fields_and_vectors_are_no_slices(examples, run, name, what):
    model, trainer, _ = run
    with pytest.raises(DataError, match=f"evaluation.slices names `{name}`, which is {what}"):
        measure(model, trainer.best, examples, examples.split.test, slices=[name])
