"""A fingerprint of rows: the same whatever wrote them and however they are stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dualdnn.errors import DataError


def rows_sha256(table: pa.Table) -> str:
    """Hex digest of the names and values of a table's rows, in order.

    It does not depend on how parquet stores them, on integer or text widths, or on chunks.
    Null and NaN are the same: missing.

    Raises:
        DataError: a column is neither of integers, numbers, text nor lists of these.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(json.dumps([name, table.num_rows]).encode())
        column = table.column(name)
        _update(digest, name, pa.concat_arrays(column.chunks) if column.num_chunks else
                pa.array([], column.type))
    return digest.hexdigest()


def _update(digest: Any, name: str, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_integer(kind):
        values = array.cast(pa.int64())
        _update_numbers(digest, "integer", values.is_null(), values.fill_null(0), "<i8")
    elif pa.types.is_floating(kind):
        missing = array.is_null(nan_is_null=True)
        values = pc.if_else(missing, pa.scalar(0.0), array.cast(pa.float64()))
        _update_numbers(digest, "number", missing, values, "<f8")
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        lengths = pc.binary_length(array.cast(pa.large_binary())).fill_null(0)
        _update_numbers(digest, "text", array.is_null(), lengths, "<i8")
        digest.update("".join(array.drop_null().to_pylist()).encode())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.list_value_length(array).fill_null(0)
        _update_numbers(digest, "list", array.is_null(), lengths, "<i8")
        _update(digest, name, array.flatten())
    else:
        raise DataError(f"column {name}: expected integers, numbers, text or lists of these, got "
                        f"{kind}. Convert it before writing the lake.")


def _update_numbers(digest: Any, kind: str, missing: pa.Array, values: pa.Array,
                    dtype: str) -> None:
    digest.update(kind.encode())
    digest.update(missing.to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
    digest.update(values.to_numpy(zero_copy_only=False).astype(dtype).tobytes())
