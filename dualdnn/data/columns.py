"""What a column of the lake must be: types, ranges, and one form for every way to write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dualdnn.data.scaling import without_subnormals
from dualdnn.errors import DataError
from dualdnn.schema import Field, Schema

# 10^11 seconds is the year 5138; every log in milliseconds since 1973 lies above it.
_LARGEST_SECONDS = 10**11
_LIST_OF_TEXT = pa.large_list(pa.large_string())


def checked_columns(path: Path, table: pa.Table, schema: Schema) -> pa.Table:
    """The columns of `schema` in the form that `Lake.read` promises.

    Args:
        path: the file that `table` was read from, for messages.
        table: columns as the file has them.
        schema: what they should be.

    Raises:
        DataError: a column has the wrong type or impossible values.
    """
    columns = {}
    # A schema that stands for some columns only names no label and no timestamp.
    if schema.label:
        columns[":label"] = _label(path, schema.label, table[schema.label])
    if schema.timestamp:
        columns[":timestamp"] = _timestamp(path, schema.timestamp, table[schema.timestamp])
    if schema.group:
        columns[":group"] = text_column(path, schema.group, "group", table[schema.group])
    if schema.weight:
        columns[":weight"] = _weight(path, schema.weight, table[schema.weight])
    if schema.rate_column:
        columns[":rate"] = _rate(path, schema.rate_column, table[schema.rate_column])
    for field in schema.fields:
        if field.column:
            kind = "id" if field.file else field.kind
            columns[field.name] = _FIELD_OF_KIND[kind](path, field, table[field.column])
    return pa.table(columns)


def text_column(path: Path, column: str, kind: str, values: pa.ChunkedArray) -> pa.Array:
    """Ids as large_string, integers in decimal; null where missing.

    Raises:
        DataError: the values are neither text nor integers, or not UTF-8.
    """
    if not _is_text(values.type):
        # Floats are refused on purpose: 1.0, 1 and 1e0 would be three different ids.
        raise _wrong_type(path, column, f"string or integer for kind {kind}", values.type)
    # Cast chunk by chunk: the offsets of plain strings overflow where 2 GB are put together.
    return _valid_text(path, column, values.cast(pa.large_string()).combine_chunks())


def _wrong_type(path: Path, column: str, expected: str, got: pa.DataType) -> DataError:
    return DataError(
        f"{path}: column `{column}` must be {expected}, got {got}. Cast it where the lake is "
        "written, or correct the schema."
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind)
                or pa.types.is_fixed_size_list(kind))


def _is_list_of_text(kind: pa.DataType) -> bool:
    return pa.types.is_null(kind) or (_is_list(kind) and _is_text(kind.value_type))


def _valid_text(path: Path, column: str, array: pa.Array) -> pa.Array:
    """`array`, after a look at its bytes: parquet does not promise that text is UTF-8."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path}: column `{column}` must be UTF-8 text: {error}. Repair or escape the values "
            "where the lake is written."
        ) from error
    return array


def _plain(values: pa.ChunkedArray) -> pa.Array:
    """One array without dictionary encoding."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.combine_chunks()


def _floats(array: pa.Array) -> np.ndarray:
    """float64 values, NaN where null; integers beyond 2^53 lose their last digits."""
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _label(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _plain(values)
    if not (_is_number(array.type) or pa.types.is_boolean(array.type)):
        raise _wrong_type(path, column, "a label of 0 and 1", array.type)
    numbers = _floats(array)
    wrong = ~np.isin(numbers, (0.0, 1.0))
    if wrong.any():
        value = numbers[wrong][0]
        shown = "null" if np.isnan(value) else f"{value:g}"
        raise DataError(
            f"{path}: label `{column}` must be 0 or 1, got {shown} in {int(wrong.sum())} of "
            f"{len(numbers)} rows. Derive a 0/1 column where the lake is written."
        )
    return pa.array(numbers.astype(np.uint8))


def _timestamp(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _plain(values)
    if pa.types.is_timestamp(array.type):
        # Arrow keeps zoned timestamps in UTC; naive ones are read as UTC, as the schema says.
        array = array.cast(pa.timestamp("s", array.type.tz), safe=False).cast(pa.int64())
    elif not pa.types.is_integer(array.type):
        raise _wrong_type(path, column, "whole seconds since the epoch", array.type)
    if array.null_count:
        raise DataError(
            f"{path}: timestamp `{column}` is null in {array.null_count} of {len(array)} rows. "
            "Every row needs the second at which it happened."
        )
    largest = pc.max(array).as_py() or 0
    if largest >= _LARGEST_SECONDS:
        raise DataError(
            f"{path}: timestamp `{column}` must be in seconds since the epoch, got {largest}, "
            "which looks like milliseconds or finer. Divide where the lake is written."
        )
    if (pc.min(array).as_py() or 0) < 0:
        raise DataError(
            f"{path}: timestamp `{column}` must be >= 0 seconds since the epoch, got "
            f"{pc.min(array).as_py()}. Correct the rows where the lake is written."
        )
    return array.cast(pa.int64())


def _weight(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _plain(values)
    if not _is_number(array.type):
        raise _wrong_type(path, column, "a number", array.type)
    numbers = _floats(array)
    # Weights are stored as float32; beyond its range they would become infinite.
    wrong = ~((numbers >= 0) & (numbers <= np.finfo(np.float32).max))
    if wrong.any():
        raise DataError(
            f"{path}: weight `{column}` must be finite and >= 0, got {numbers[wrong][0]} in "
            f"{int(wrong.sum())} of {len(numbers)} rows. Use 0 to leave a row out."
        )
    return pa.array(numbers)


def _rate(path: Path, column: str, values: pa.ChunkedArray) -> pa.Array:
    array = _plain(values)
    if not _is_number(array.type):
        raise _wrong_type(path, column, "a number", array.type)
    numbers = _floats(array)
    # Also what float32 cannot tell from 0 would be divided by.
    wrong = ~((numbers >= np.finfo(np.float32).tiny) & (numbers <= 1))
    if wrong.any():
        raise DataError(
            f"{path}: sampling_rate `{column}` must lie in (0, 1], got {numbers[wrong][0]} in "
            f"{int(wrong.sum())} of {len(numbers)} rows. Write the probability with which the "
            "row would have been kept as a negative, 1 where none was left out."
        )
    return pa.array(numbers.astype(np.float32))


def _id(path: Path, field: Field, values: pa.ChunkedArray) -> pa.Array:
    return text_column(path, field.column or field.name, "hash" if field.kind == "hash" else "id",
                       values)


def _ids(path: Path, field: Field, values: pa.ChunkedArray) -> pa.Array:
    if not _is_list_of_text(values.type):
        raise _wrong_type(path, field.name,
                          f"a list of string or integer for kind {field.kind}", values.type)
    return _valid_text(path, field.name, values.cast(_LIST_OF_TEXT).combine_chunks())


def _vector(path: Path, field: Field, values: pa.ChunkedArray) -> pa.Array:
    """Lists of float32 of the field's size; where missing, of NaN."""
    size = field.size or 0
    kind = values.type
    if not pa.types.is_null(kind) and not (_is_list(kind) and _is_number(kind.value_type)):
        raise _wrong_type(path, field.name, "a list of numbers for kind vector", kind)
    array = values.cast(pa.large_list(pa.float64())).combine_chunks()
    present = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    lengths = np.diff(array.offsets.to_numpy())[present]
    if (wrong := lengths != size).any():
        raise DataError(
            f"{path}: vector `{field.name}` must have {size} numbers, got {lengths[wrong][0]} in "
            f"{int(wrong.sum())} of {len(array)} rows. Correct size in the schema, or write null "
            "where the vector is unknown."
        )
    # flatten leaves out what lies below a null.
    with np.errstate(over="ignore"):
        given = without_subnormals(_floats(array.flatten())).reshape(-1, size)
    broken = int((~np.isfinite(given)).any(axis=1).sum())
    if broken:
        raise DataError(
            f"{path}: vector `{field.name}` holds null, NaN or infinity (or numbers beyond "
            f"float32) in {broken} of {len(array)} rows. Write null for the whole vector where it "
            "is unknown."
        )
    numbers = np.full((len(array), size), np.nan, np.float32)
    numbers[present] = given
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), size)


def _number(path: Path, field: Field, values: pa.ChunkedArray) -> pa.Array:
    array = _plain(values)
    kind = array.type
    if not (_is_number(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        raise _wrong_type(path, field.name, "a number for kind number", kind)
    with np.errstate(over="ignore"):
        numbers = without_subnormals(_floats(array))
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        raise DataError(
            f"{path}: number `{field.name}` is infinite (or beyond float32) in {infinite} of "
            f"{len(numbers)} rows. Write null where the value is unknown, or clip it."
        )
    return pa.array(numbers)


_FIELD_OF_KIND = {"id": _id, "hash": _id, "ids": _ids, "sequence": _ids, "number": _number,
                  "vector": _vector}
