"""Damaged files of pre-trained vectors end with the file and what was expected."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.vectors import read_vectors
from dualdnn.errors import DataError
from dualdnn.schema import Field

VECTORS = np.ones((2, 3))


def field_of(path):
    return Field(name="text", kind="vector", file=str(path), key="item")


@pytest.mark.parametrize("keys", [np.array([["a"], ["b"]]), np.array("a"), np.array([1j, 2j])],
                         ids=["column", "scalar", "complex"])
def test_keys_of_an_npz_are_a_row_of_text_or_integers(tmp_path, keys):
    np.savez(tmp_path / "v.npz", key=keys, vector=VECTORS)
    with pytest.raises(DataError, match=r"v\.npz: `key` must be text or integers of shape"):
        read_vectors(field_of(tmp_path / "v.npz"))


def test_a_parquet_file_names_its_columns_key_and_vector(tmp_path):
    pq.write_table(pa.table({"item": ["a", "b"], "vector": VECTORS.tolist()}),
                   tmp_path / "v.parquet")
    with pytest.raises(DataError, match=r"v\.parquet: column `key` is missing; the file has item, "
                       r"vector\. Expected the columns `key`"):
        read_vectors(field_of(tmp_path / "v.parquet"))
