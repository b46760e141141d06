import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.data.window import TimeFraction
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.field_importance import field_importance, without_field
from dualdnn.training.scoring import Scorer
from tests.rich_feed import KEY, open_rich, rich_schema
from tests.tiny_run import EVERYTHING, build_model, open_tiny


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALDNN_PII_KEY", KEY)
        folder = tmp_path_factory.mktemp("rich")
        yield folder, open_rich(folder)


@pytest.mark.parametrize("column", ["item", "user", "city", "hour", "age", "price", "balance",
                                    "cover", "touch"])
def test_a_field_that_says_nothing_is_read_as_a_missing_one(rich, column, tmp_path):
    # The same lake without any value in the column, read with the same row map.
    folder, examples = rich
    shutil.copytree(folder / "lake", tmp_path / "lake")
    for path in (tmp_path / "lake").rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        at = table.column_names.index(column)
        nothing = pa.nulls(len(table), table.schema.field(column).type)
        pq.write_table(table.set_column(at, column, nothing), path)
    blind = open_examples(lake=Lake(tmp_path / "lake"), schema=rich_schema(folder),
                          window=TimeFraction(train=0.6, valid=0.2, test=0.2),
                          state=tmp_path / "state", row_map=examples.row_map)
    rows, dense = without_field(examples, column, examples.rows, examples.dense)
    of, floats = examples.schema.cells(column), examples.schema.dense(column)
    assert not np.array_equal(examples.rows[:, of], rows[:, of])
    np.testing.assert_array_equal(rows[:, of], blind.rows[:, of])
    np.testing.assert_array_equal(dense[:, floats], blind.dense[:, floats])


@pytest.mark.parametrize("name", ["seen", "related", "item_x_city", "item_vec"])
def test_every_value_of_a_list_is_unknown_and_nothing_else_changes(rich, name):
    _, examples = rich
    rows, dense = without_field(examples, name, examples.rows, examples.dense)
    of = examples.schema.cells(name)
    oov = examples.row_map.oov_rows[[f.name for f in examples.schema.fields].index(name)]
    before = examples.rows[:, of]
    np.testing.assert_array_equal(rows[:, of], np.where(before == PADDING_ROW, PADDING_ROW, oov))
    others = np.delete(np.arange(rows.shape[1]), np.arange(rows.shape[1])[of])
    np.testing.assert_array_equal(rows[:, others], examples.rows[:, others])
    np.testing.assert_array_equal(dense, examples.dense)


def kept(examples, objectives):
    model = build_model(examples, objectives)
    best = BestWeights()
    for tower in model.towers:
        best.keep(model, tower, 0)
    return model, best


def test_the_loss_is_that_of_scoring_without_the_field(tmp_path):
    examples = open_tiny(tmp_path)
    model, best = kept(examples, [EVERYTHING])
    index = examples.split.test
    found = field_importance(model, best, examples, index, [TEACHER, "s0", "gone"])
    assert set(found) == {TEACHER, "s0"}
    labels = examples.labels[index]
    for tower, losses in found.items():
        assert set(losses) == {"user", "item", "tags", "age"}
        assert [one["auc_loss"] for one in losses.values()] == sorted(
            (one["auc_loss"] for one in losses.values()), reverse=True)
        for field, numbers in losses.items():
            best.load_into(model, tower)
            blind = examples.rows[index].copy()
            cells = blind[:, examples.columns(field)]
            position = [f.name for f in examples.schema.fields].index(field)
            cells[cells != 0] = examples.row_map.oov_rows[position]
            scores = [Scorer(model)(rows, [tower])[tower]
                      for rows in (examples.rows[index], blind)]
            with_field, without = (roc_auc_score(labels, one) for one in scores)
            assert numbers["auc_loss"] == pytest.approx(with_field - without, abs=1e-12)
            assert numbers["error"] > 0


def test_a_student_loses_nothing_by_what_only_the_teacher_reads(rich):
    _, examples = rich
    model, best = kept(examples, [EVERYTHING])
    found = field_importance(model, best, examples, examples.split.test, [TEACHER, "s0"])
    private = {field.name for field in examples.schema.fields if field.privileged}
    assert private
    assert set(found[TEACHER]) - set(found["s0"]) == private


def test_one_class_has_no_importance(tmp_path):
    examples = open_tiny(tmp_path)
    model, best = kept(examples, [])
    negatives = np.flatnonzero(examples.labels == 0)
    assert field_importance(model, best, examples, negatives, [TEACHER]) == {}
