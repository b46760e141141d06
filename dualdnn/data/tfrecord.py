"""Days written as TFRecord files of tf.Example, read into the columns that parquet would give."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf
from google.protobuf.message import DecodeError

from dualdnn.errors import DataError

LIST_KINDS = ("ids", "sequence", "vector")
# Records that are in memory as bytes at a time, beside the columns read so far.
_BATCH_RECORDS = 8192
_BUFFER_BYTES = 1 << 20
# Length, checksum of the length, and checksum of the record, around every record.
_FRAME_BYTES = 16
# Every tf.Example begins with the tag of its field `features`.
_FIRST_BYTE = b"\n"
_TENSOR_OF_KIND = {"bytes_list": tf.string, "int64_list": tf.int64, "float_list": tf.float32}
_ARROW_OF_KIND = {"bytes_list": pa.large_string(), "int64_list": pa.int64(),
                  "float_list": pa.float32()}


def read_tfrecord(
    path: Path, *, columns: Collection[str], kinds: Mapping[str, str], wanted_by: str
) -> pa.Table:
    """Some features of one file, one row per record, in the order of the file.

    A `bytes_list` becomes text, an `int64_list` integers, a `float_list` float32. A feature that
    is absent or has no value is missing: null, or an empty list where `kinds` wants lists of ids.
    Features that never have a value are of Arrow's type null. Records are counted from 1.

    Args:
        path: `*.tfrecord`, or `*.tfrecord.gz` compressed with gzip.
        columns: the features to read.
        kinds: of fields by name; those of `LIST_KINDS` keep lists, all other columns hold at most
            one value.
        wanted_by: who names the columns, for messages.

    Raises:
        DataError: the file is damaged or cut off, a record is no tf.Example, a column is in no
            example, changes its kind, or has several values where one is expected. The message
            names the file and, where there is one, the record.
    """
    reader = _Reader(path, columns)
    chunks: dict[str, list[tuple[pa.Array, np.ndarray]]] = {column: [] for column in columns}
    rows = 0
    for records in _batches(path):
        for column, ragged in reader.parse(records, first=rows + 1).items():
            chunks[column].append((_arrow(ragged.values), ragged.row_splits.numpy()))
        rows += len(records)
    if rows:
        reader.refuse_missing(wanted_by)
    found = {column: pa.chunked_array([pa.nulls(rows)]) for column in columns}
    for column, kind in reader.kinds.items():
        found[column] = _column(path, column, chunks[column], kind, kinds.get(column))
    return pa.table(found)


def _batches(path: Path) -> Iterator[tf.Tensor]:
    """The records, (at most _BATCH_RECORDS,) strings at a time, all bytes of the file or error."""
    compression = "GZIP" if path.name.endswith(".gz") else ""
    try:
        left = _inflated_bytes(path) if compression else path.stat().st_size
        dataset = tf.data.TFRecordDataset(str(path), compression, _BUFFER_BYTES)
        for records in dataset.batch(_BATCH_RECORDS).prefetch(1):
            left -= int(tf.reduce_sum(tf.strings.length(records))) + _FRAME_BYTES * len(records)
            yield records
        # TensorFlow does not mind a file that ends inside the length of a record.
        if left:
            raise _damaged(path, compression, cut_off=True)
    except tf.errors.DataLossError as error:
        raise _damaged(path, compression, cut_off="truncated" in error.message) from None
    except (tf.errors.OpError, OSError, EOFError, zlib.error) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else error
        raise DataError(f"{path} cannot be read as TFRecord: {reason}. Write the file again, with "
                        "the name .tfrecord, or .tfrecord.gz if it is compressed.") from error


def _inflated_bytes(path: Path) -> int:
    """Size without compression, after a look at gzip's own checksums: TensorFlow skips them."""
    if path.stat().st_size == 0:
        raise EOFError("it is empty, without even the header of gzip")
    size = 0
    with gzip.open(path) as file:
        while part := file.read(_BUFFER_BYTES):
            size += len(part)
    return size


def _damaged(path: Path, compression: str, *, cut_off: bool) -> DataError:
    """Counts the sound records before the damage; only the message needs it."""
    whole = 0
    try:
        for _ in tf.data.TFRecordDataset(str(path), compression, _BUFFER_BYTES):
            whole += 1
    except tf.errors.OpError:
        pass
    problem = "the file ends inside it" if cut_off else "its checksum does not hold"
    hint = "" if compression else ", and name it .tfrecord.gz if it is compressed"
    return DataError(f"{path}, record {whole + 1}: expected a whole TFRecord, but {problem}. "
                     f"Write the file again{hint}.")


class _Reader:
    """Parses batches of records while it learns of which kind each feature is.

    Attributes:
        kinds: feature → `bytes_list`, `int64_list` or `float_list`, as far as known.
    """

    def __init__(self, path: Path, columns: Collection[str]) -> None:
        self.kinds: dict[str, str] = {}
        self._path = path
        self._columns = columns
        self._first_seen: dict[str, int] = {}

    def parse(self, records: tf.Tensor, *, first: int) -> dict[str, tf.RaggedTensor]:
        """The features of a batch, each (num_records, values) ragged; `first` numbers records."""
        # An empty record would pass as an example without features, and one that TensorFlow
        # cannot parse may be written into its log, whatever is in it.
        tags = tf.strings.substr(records, 0, 1).numpy()
        if len(strange := np.flatnonzero(tags != _FIRST_BYTE)):
            raise self._no_example(first + int(strange[0]), records[int(strange[0])].numpy())
        if first == 1:
            self._look(records[:1], first)
        for tried_again in (False, True):
            # A feature without a value so far fits any kind until its first value comes.
            wanted = {column: tf.io.RaggedFeature(
                _TENSOR_OF_KIND[self.kinds.get(column, "bytes_list")], row_splits_dtype=tf.int64)
                for column in self._columns}
            try:
                parsed = tf.io.parse_example(records, wanted)
                self._learn_text(parsed, first)
                return parsed
            # The record's bytes stand in TensorFlow's message, which may then be no text.
            except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
                if not tried_again:
                    self._look(records, first)
        raise DataError(f"{self._path}: TensorFlow cannot parse one of the records {first} to "
                        f"{first + len(records) - 1} as tf.Example. Write the file again.")

    def _learn_text(self, parsed: Mapping[str, tf.RaggedTensor], first: int) -> None:
        """Features of unknown kind were parsed as text: those with values are text."""
        for column in parsed.keys() - self.kinds.keys():
            if len(with_values := np.flatnonzero(parsed[column].row_lengths().numpy())):
                self.kinds[column] = "bytes_list"
                self._first_seen[column] = first + int(with_values[0])

    def _look(self, records: tf.Tensor, first: int) -> None:
        """Learn the kinds from these records one by one; raise where they contradict."""
        for number, record in enumerate(records.numpy(), start=first):
            try:
                features = tf.train.Example.FromString(record).features.feature
            except DecodeError:
                raise self._no_example(number, record) from None
            for column in self._columns:
                kind = features[column].WhichOneof("kind") if column in features else None
                if kind is None:
                    continue
                known = self.kinds.setdefault(column, kind)
                before = self._first_seen.setdefault(column, number)
                if kind != known:
                    raise DataError(
                        f"{self._path}, record {number}: feature `{column}` must be of one kind "
                        f"in all examples, got {kind} after {known} in record {before}. Write "
                        "one kind; leave the feature out where its value is missing.")

    def refuse_missing(self, wanted_by: str) -> None:
        """Raise unless every column is a feature of some example, if only without a value."""
        missing = [column for column in self._columns if column not in self.kinds]
        if not missing:
            return
        seen: dict[str, None] = {}
        for records in _batches(self._path):
            for record in records.numpy():
                seen.update(dict.fromkeys(sorted(tf.train.Example.FromString(record)
                                                 .features.feature)))
                missing = [column for column in missing if column not in seen]
                if not missing:
                    return
        named = ", ".join(f"`{column}`" for column in missing)
        are = "column {} is" if len(missing) == 1 else "columns {} are"
        raise DataError(
            f"{self._path}: {are.format(named)} missing in every example, which {wanted_by} "
            f"names; the examples have {', '.join(seen) or 'no features'}. Correct {wanted_by} or "
            "write the feature.")

    def _no_example(self, number: int, record: bytes) -> DataError:
        return DataError(f"{self._path}, record {number}: expected a tf.Example with features, "
                         f"got {len(record)} bytes that are none. Write every record as a "
                         "serialized tf.train.Example.")


def _arrow(values: tf.Tensor) -> pa.Array:
    """(num_values,) of Arrow; text unchecked, as parquet files give it."""
    if values.dtype != tf.string:
        return pa.array(values.numpy())
    return pa.array(values.numpy(), pa.large_binary()).view(pa.large_string())


def _column(
    path: Path, column: str, chunks: list[tuple[pa.Array, np.ndarray]], feature_kind: str,
    field_kind: str | None,
) -> pa.ChunkedArray:
    """(num_records,) values or lists of values out of those of every batch."""
    arrays = []
    first = 1
    for values, splits in chunks:
        # Read before the first value told the kind.
        values = values if len(values) else pa.array([], _ARROW_OF_KIND[feature_kind])
        lengths = np.diff(splits)
        if field_kind in LIST_KINDS:
            # No ids is an empty list; a vector without its numbers is none.
            none = pa.array(lengths == 0) if field_kind == "vector" else None
            arrays.append(pa.LargeListArray.from_arrays(splits, values, mask=none))
        elif len(several := np.flatnonzero(lengths > 1)):
            kind = f" of kind {field_kind}" if field_kind else ""
            raise DataError(
                f"{path}, record {first + int(several[0])}: column `{column}`{kind} must hold at "
                f"most one value, got {lengths[several[0]]}. Write one value, or give the field "
                f"a kind that takes lists ({', '.join(LIST_KINDS)}).")
        else:
            arrays.append(values.take(pa.array(splits[:-1], mask=lengths == 0)))
        first += len(lengths)
    return pa.chunked_array(arrays)
