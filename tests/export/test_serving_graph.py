import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.data.lake import Lake
from dualdnn.export.serving_graph import ServingGraph, raw_features
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.schema import schema_from_dict
from pipelines.build import serving_graph
from tests.tiny_run import EVERYTHING, SCHEMA, build_model, open_tiny

USER, ITEM, TAGS, AGE = range(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("feed")


@pytest.fixture(scope="module")
def examples(folder):
    return open_tiny(folder)


@pytest.fixture(scope="module")
def model(examples):
    model = build_model(examples, [EVERYTHING], alone=True)
    for table in model.tables(model.towers):
        for column in table.columns():
            column.assign(tf.random.stateless_normal(tf.shape(column), seed=(1, 2)))
    return model


@pytest.fixture(scope="module")
def graph(model, examples):
    return serving_graph(model, examples, "s0")


def request(*, user=("u3",), item=("7",), tags=(("t1",),), age=(30.0,)):
    return {
        "user": tf.constant(user, tf.string), "item": tf.constant(item, tf.string),
        "tags": tf.constant(tags, tf.string, shape=np.shape(tags)),
        "age": tf.constant(age, tf.float32),
    }


def rows_of(graph, **features):
    return graph.rows_of(request(**features)).numpy()


def test_raw_features_give_the_rows_of_training(graph, examples, folder):
    lake, start = Lake(folder / "lake"), 0
    for day in examples.days:
        features = raw_features(SCHEMA, lake.read(day.day, SCHEMA))
        given = {name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
                 for name, value in features.items()}
        np.testing.assert_array_equal(graph.rows_of(given), examples.rows[start : start + day.rows])
        start += day.rows
    assert start == len(examples.rows)


def test_a_missing_or_unseen_id_gets_the_out_of_vocabulary_row(graph, examples):
    oov = examples.row_map.oov_rows
    # `u3` is a user, not an item; `07` is another text than `7`.
    for value in ("", "never seen", "U3", "u3 ", "日本", "x" * 10_000):
        assert rows_of(graph, user=(value,))[0, USER] == oov[USER]
    for value in ("u3", "07", "7.0"):
        assert rows_of(graph, item=(value,))[0, ITEM] == oov[ITEM]
    assert rows_of(graph)[0, USER] not in oov
    assert rows_of(graph)[0, ITEM] not in oov


def test_an_unseen_id_is_scored_exactly_as_the_out_of_vocabulary_row(graph, examples):
    signatures = graph.signatures()
    rows = rows_of(graph)
    rows[0, USER] = examples.row_map.oov_rows[USER]
    expected = signatures["encoded"](rows=tf.constant(rows))
    for value in ("never seen", ""):
        answer = signatures["serving_default"](**request(user=(value,)))
        assert answer["logit"].numpy() == expected["logit"].numpy()
        assert answer["probability"].numpy() == expected["probability"].numpy()
    known = signatures["serving_default"](**request())
    assert known["logit"].numpy() != expected["logit"].numpy()


def tag_rows(graph, *tags):
    return rows_of(graph, tags=(tags,))[0, TAGS : TAGS + 3].tolist()


def test_lists_of_any_length(graph, examples):
    oov = int(examples.row_map.oov_rows[TAGS])
    one, two, other = (tag_rows(graph, tag)[0] for tag in ("t1", "t4", "t2ü"))
    assert len({0, oov, one, two, other}) == 5
    assert tag_rows(graph, "t1") == [one, 0, 0]
    assert tag_rows(graph, "t1", "t4", "t2ü") == [one, two, other]
    assert tag_rows(graph, "t1", "t4", "t2ü", "t0", "t3") == [one, two, other]
    assert tag_rows(graph, "t1", "unseen") == [one, oov, 0]
    # Holes stay holes; only the first `max_length` positions count.
    assert tag_rows(graph, "", "t1") == [0, one, 0]
    assert tag_rows(graph, "", "", "", "t1") == [oov, 0, 0]
    assert tag_rows(graph, "", "", "") == [oov, 0, 0]
    assert tag_rows(graph) == [oov, 0, 0]


@pytest.mark.parametrize("width", [0, 1, 3, 9])
@pytest.mark.parametrize("batch_size", [0, 1, 5])
def test_batches_of_any_size_and_width(graph, batch_size, width):
    answer = graph.signatures()["serving_default"](**request(
        user=["u1"] * batch_size, item=["1"] * batch_size, age=[20.0] * batch_size,
        tags=np.full((batch_size, width), "t1", object)))
    assert {name: value.shape for name, value in answer.items()} == {
        "probability": (batch_size,), "logit": (batch_size,)}
    assert np.all(answer["logit"].numpy() == answer["logit"].numpy()[:1])


def test_padding_a_list_further_changes_nothing(graph):
    score = graph.signatures()["serving_default"]
    narrow, wide = (score(**request(tags=(tags,)))["logit"].numpy()
                    for tags in (("t1", "t4"), ("t1", "t4", "", "", "")))
    assert narrow == wide


def test_numbers_at_and_beyond_the_boundaries(graph, examples):
    bounds = examples.row_map.boundaries_of(AGE)
    first = examples.row_map.bucket_rows[AGE]
    values = [-np.inf, -3e38, *bounds, np.nextafter(bounds[0], np.float32(0)), 3e38, np.inf, np.nan]
    rows = [rows_of(graph, age=(value,))[0, -1] - first for value in values]
    last = len(bounds)
    assert rows == [0, 0, *range(1, last + 1), 0, last, last,
                    examples.row_map.oov_rows[AGE] - first]
    np.testing.assert_array_equal(
        np.array(rows) + first,
        examples.row_map.rows_of_numbers(AGE, np.array(values, np.float32)))


def test_a_number_field_without_boundaries_and_a_table_without_signs(examples):
    bare = replace(
        examples.row_map, signs=np.zeros(0, np.int64), rows=np.zeros(0, np.int32),
        boundaries=np.full_like(examples.row_map.boundaries, np.inf))
    graph = ServingGraph(schema=SCHEMA, row_map=bare, score=lambda rows, _: tf.zeros(len(rows)),
                         variables=[])
    oov = bare.oov_rows
    assert rows_of(graph).tolist() == [[oov[USER], oov[ITEM], oov[TAGS], 0, 0,
                                        bare.bucket_rows[AGE]]]
    assert rows_of(graph, age=(np.nan,))[0, -1] == oov[AGE]


def test_signatures_name_every_tensor(graph):
    signatures = graph.signatures()
    inputs = {name: {key: (spec.name, spec.dtype, spec.shape.as_list())
                     for key, spec in f.structured_input_signature[1].items()}
              for name, f in signatures.items()}
    assert inputs["serving_default"] == {
        "user": ("user", tf.string, [None]), "item": ("item", tf.string, [None]),
        "tags": ("tags", tf.string, [None, None]), "age": ("age", tf.float32, [None])}
    assert inputs["encoded"] == {"rows": ("rows", tf.int32, [None, 6])}


def test_teacher_and_alone_are_scored_with_their_own_tables(model, examples):
    rows = tf.constant(examples.rows[:20])
    everyone = model.forward(model.lookup(rows), tf.constant(0, tf.int64))
    for tower in (TEACHER, "s0", "alone"):
        score = serving_graph(model, examples, tower).score
        np.testing.assert_allclose(score(rows), everyone[tower].logits, atol=1e-5)


def test_raw_features_of_rows_with_and_without_values():
    import pyarrow as pa

    schema = schema_from_dict({"name": "n", "label": "y", "timestamp": "t", "fields": [
        {"name": "a", "kind": "id"}, {"name": "b", "kind": "ids", "max_length": 2},
        {"name": "c", "kind": "number"}]})
    table = pa.table({"a": ["x", None, ""], "b": [["p", "q", "r"], [], None],
                      "c": pa.array([1.5, np.nan, 2.0], pa.float32())})
    found = raw_features(schema, table)
    assert found["a"].tolist() == ["x", "", ""]
    assert found["b"].tolist() == [["p", "q"], ["", ""], ["", ""]]
    np.testing.assert_array_equal(found["c"], np.array([1.5, np.nan, 2.0], np.float32))
