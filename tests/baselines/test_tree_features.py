import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

from dataclasses import replace

import numpy as np
import pytest

from dualdnn.baselines.tree_features import TreeFeatures
from dualdnn.schema.field import NAME
from tests.rich_feed import KEY, open_rich
from tests.tiny_run import open_tiny


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALDNN_PII_KEY", KEY)
        return open_rich(tmp_path_factory.mktemp("rich"))


def everything(examples):
    return np.arange(len(examples.labels))


def raw(examples, name):
    """The values of an id as texts, None where missing."""
    found = []
    for day in examples.days:
        texts = [*day.values()[day.section(name)], None, None]
        found += [texts[cell] for cell in day.local_cells(name)[:, 0]]
    return np.array(found, object)


def test_an_id_is_read_by_how_often_other_rows_of_training_have_it(examples):
    features = TreeFeatures(examples, most_categories=0)
    assert features.names == ["user", "item", "tags.length", "tags.count", "age"]
    assert features.categorical == []
    found = features.matrix(everything(examples))
    users, train = raw(examples, "user"), examples.split.train
    for row in (0, 5, 40, *examples.split.test[:5]):
        others = [one for one in train if one != row and users[one] is not None
                  and users[one] == users[row]]
        assert found[row, 0] == np.rint(np.log2(1 + len(others)))
    assert found[users == None][:, 0].max() == 0  # noqa: E711


def test_numbers_are_as_they_are(examples):
    found = TreeFeatures(examples, 0).matrix(everything(examples))[:, 4]
    np.testing.assert_array_equal(found, examples.numbers("age", everything(examples)))
    assert np.isnan(found).any()


def test_a_list_is_read_by_its_length_and_the_mean_of_its_counts(examples):
    found = TreeFeatures(examples, 0).matrix(everything(examples))
    cells = examples.rows[:, examples.columns("tags")]
    np.testing.assert_array_equal(found[:, 2], (cells != 0).sum(axis=1))
    train = examples.split.train
    row = next(i for i in examples.split.test if (cells[i] != 0).sum() == 2)
    counts = [(cells[train] == cell).sum() for cell in cells[row, :2]]
    assert found[row, 3] == np.rint(np.log2(1 + np.mean(counts)))


def test_few_values_are_categories_and_unseen_ones_are_missing(examples):
    seen = np.unique(examples.rows[examples.split.train, 0])
    assert TreeFeatures(examples, len(seen) - 1).categorical == []
    features = TreeFeatures(examples, len(seen))
    assert [features.names[i] for i in features.categorical] == ["user"]
    found = features.matrix(everything(examples))[:, 0]
    np.testing.assert_array_equal(seen[found.astype(int)], examples.rows[:, 0])
    other = replace(examples, rows=examples.rows.copy())
    other.rows[0, 0] = examples.row_map.num_rows - 1
    assert np.isnan(TreeFeatures(replace(other, split=replace(
        other.split, train=other.split.train[1:])), len(seen)).matrix(np.array([0]))[0, 0])


def test_no_label_is_read(examples):
    flipped = replace(examples, labels=1 - examples.labels)
    for most in (0, 255):
        one, other = (TreeFeatures(of, most).matrix(everything(examples))
                      for of in (examples, flipped))
        np.testing.assert_array_equal(one, other)


def test_every_kind_of_field_has_its_columns_and_privileged_ones_have_none(rich):
    features = TreeFeatures(rich, 64)
    assert features.names == [
        "user", "item", "hour", "seen.length", "seen.count", "related.length", "related.count",
        "city", "age", "price", "balance", "cover.0", "cover.1", "cover.2", "user_x_hour",
        "item_x_city"]
    # A name that is not that of a field is one that no field can have.
    fields = {field.name for field in rich.schema.fields}
    assert not [one for one in set(features.names) - fields if NAME.fullmatch(one)]
    found = features.matrix(everything(rich))
    assert found.shape == (len(rich.labels), len(features.names))
    assert found.dtype == np.float32
    cover = np.concatenate([day.vectors("cover") for day in rich.days])
    np.testing.assert_array_equal(found[:, 11:14], cover)
    # A block is part of the whole.
    np.testing.assert_array_equal(features.matrix(np.array([7, 300])), found[[7, 300]])
