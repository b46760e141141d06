"""A file of pre-trained vectors, by id."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from dualdnn.data.columns import text_column
from dualdnn.data.signs import MISSING, signs_of
from dualdnn.errors import DataError
from dualdnn.schema import Field

_EXPECTED = "expected the columns `key` (text or integers) and `vector` (lists of numbers)"


@dataclass(frozen=True, kw_only=True)
class FileVectors:
    """What a file of vectors says.

    Attributes:
        signs: (keys,) int64, ascending, in the namespace of the field.
        vectors: (keys, size) float32.
    """

    signs: np.ndarray
    vectors: np.ndarray


def read_vectors(field: Field) -> FileVectors:
    """Read the file of a vector field.

    Args:
        field: with `file`: parquet with the columns `key` and `vector`, or .npz with the arrays
            `key` (n,) and `vector` (n, size).

    Raises:
        DataError: the file cannot be read, holds a key twice or none, or vectors that are not
            finite or not of one length.
    """
    path = Path(field.file or "")
    keys, vectors = _from_npz(path) if path.suffix == ".npz" else _from_parquet(path)
    if not len(keys):
        raise DataError(f"{path} holds no vectors: {_EXPECTED}.")
    text = text_column(path, "key", "id", pa.chunked_array([keys]))
    given = text.cast(pa.large_binary()).fill_null(b"").to_pylist()
    signs = signs_of(field.namespace, tf.constant(given, tf.string)).numpy()
    if missing := int((signs == MISSING).sum()):
        raise DataError(f"{path}: `key` is null or empty in {missing} of {len(signs)} rows. "
                        "Remove these rows.")
    order = np.argsort(signs, kind="stable")
    twice = np.flatnonzero(signs[order][1:] == signs[order][:-1])
    if len(twice):
        raise DataError(f"{path}: `key` {text[int(order[twice[0]])].as_py()!r} stands in more than "
                        "one row. Keep one vector a key.")
    if broken := int((~np.isfinite(vectors)).any(axis=1).sum()):
        raise DataError(f"{path}: `vector` holds NaN or infinity (or numbers beyond float32) in "
                        f"{broken} of {len(vectors)} rows. Remove these rows.")
    return FileVectors(signs=signs[order], vectors=vectors[order])


def _from_npz(path: Path) -> tuple[pa.Array, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as found:
            keys, vectors = found["key"], found["vector"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}. {_EXPECTED.capitalize()}, as arrays of "
                        "an .npz file.") from error
    if keys.ndim != 1 or keys.dtype.kind not in "iuUS":
        raise DataError(f"{path}: `key` must be text or integers of shape (keys,), got "
                        f"{keys.dtype} of shape {keys.shape}.")
    if vectors.ndim != 2 or vectors.shape[1] < 1 or len(keys) != len(vectors) or (
            vectors.dtype.kind not in "fiu"):
        raise DataError(f"{path}: `vector` must be numbers of shape ({len(keys)}, size), got "
                        f"{vectors.dtype} of shape {vectors.shape}.")
    with np.errstate(over="ignore"):
        return pa.array(keys), vectors.astype(np.float32)


def _from_parquet(path: Path) -> tuple[pa.Array, np.ndarray]:
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in ("key", "vector") if name not in names]:
            raise DataError(f"{path}: column `{missing[0]}` is missing; the file has "
                            f"{', '.join(names)}. {_EXPECTED.capitalize()}.")
        table = pq.read_table(path, columns=["key", "vector"])
        keys, lists = table["key"].combine_chunks(), table["vector"].combine_chunks()
        lists = lists.cast(pa.large_list(pa.float64()))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}. {_EXPECTED.capitalize()}, as a parquet "
                        "file.") from error
    sizes = np.unique(np.diff(lists.offsets.to_numpy()))
    if lists.null_count or len(sizes) > 1 or (len(sizes) and sizes[0] < 1):
        shown = "null" if lists.null_count else ", ".join(map(str, sizes[:5]))
        raise DataError(f"{path}: every `vector` must have the same number of values, got {shown}. "
                        "Remove the rows without a vector.")
    size = int(sizes[0]) if len(sizes) else 1
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return keys, flat.astype(np.float32).reshape(-1, size)
