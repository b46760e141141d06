import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest

from dualdnn.data.derived_fields import with_derived_fields
from dualdnn.data.row_map import check_made_for
from dualdnn.data.translation import translate_day
from dualdnn.errors import ConfigError
from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.schema import MAIN_TABLE
from tests.rich_feed import KEY, open_rich
from tests.tiny_run import open_tiny

NAMES, BUCKETS = ["leaf_0", "leaf_1", "leaf_2"], 5


def values_of(index):
    return np.stack([(index + shift) % BUCKETS for shift in range(3)], axis=1)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Examples with every kind of field, and the same with three derived ones."""
    folder = tmp_path_factory.mktemp("rich")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALDNN_PII_KEY", KEY)
        before = open_rich(folder)
    return before, with_derived_fields(before, NAMES, BUCKETS, values_of, digest="d", state=folder)


def test_every_value_is_still_read_by_its_own_row(both):
    """What the new row map says of the encoded days is what stands in the moved rows."""
    before, after = both
    width, start = before.schema.width, 0
    for day in before.days:
        rows = np.empty((day.rows, width), np.int32)
        dense = np.empty((day.rows, before.schema.dense_width), np.float32)
        translate_day(day, before.schema, after.row_map, rows, dense)
        np.testing.assert_array_equal(after.rows[start:start + day.rows, :width], rows)
        np.testing.assert_array_equal(after.dense[start:start + day.rows], dense)
        start += day.rows
    # Rows of the main table did move: else nothing was tested.
    assert (after.rows[:, :width] != before.rows).any()


def test_no_row_is_owned_twice(both):
    before, after = both
    main = [field.name for field in before.schema.tables()[MAIN_TABLE]]
    old = {int(row) for name in main for row in after.rows[:, before.schema.cells(name)].ravel()}
    new = after.rows[:, before.schema.width:]
    # (rows, 3): each field its own five rows, behind all others
    firsts = after.row_map.bucket_rows[-3:]
    np.testing.assert_array_equal(new, firsts + values_of(np.arange(len(new))))
    assert np.diff(firsts).tolist() == [BUCKETS, BUCKETS]
    assert max(old) < firsts[0]
    assert firsts[-1] + BUCKETS == after.row_map.table_rows[MAIN_TABLE]
    assert not set(after.row_map.oov_rows[-3:].tolist()) & (old | {0})


def test_it_is_a_row_map_as_any_other(both):
    before, after = both
    check_made_for(after.row_map, after.schema)
    assert {name: rows for name, rows in after.row_map.table_rows.items() if name != MAIN_TABLE} \
        == {name: rows for name, rows in before.row_map.table_rows.items() if name != MAIN_TABLE}
    embedding = SharedEmbedding(
        schema=after.schema, table_rows=after.row_map.table_rows, vectors=after.row_map.vectors,
        embedding_dim=4, initial_stddev=0.1, linear=True, seed=1, name="one")
    rows = embedding.tables[MAIN_TABLE].vectors.numpy()
    # Unknown values start at zero, derived ones do not.
    assert not rows[after.row_map.oov_rows[-3:]].any()
    assert rows[after.row_map.bucket_rows[-3]:].all()
    vectors, _ = embedding.reader().lookup(after.rows[:2], after.dense[:2])
    np.testing.assert_array_equal(vectors[0, -1], rows[after.rows[0, -1]])


def test_the_fingerprint_knows_what_made_the_values(both, tmp_path):
    before, after = both
    other = with_derived_fields(before, NAMES, BUCKETS, values_of, digest="e", state=tmp_path)
    assert len({before.fingerprint, after.fingerprint, other.fingerprint}) == 3


def test_nothing_derived_changes_nothing(both, tmp_path):
    assert with_derived_fields(both[0], [], 2, values_of, digest="d", state=tmp_path) is both[0]


def test_a_name_that_is_taken_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.fields must not hold age, user, names of "):
        with_derived_fields(open_tiny(tmp_path), ["user", "leaf", "age"], 2, values_of,
                            digest="d", state=tmp_path)
