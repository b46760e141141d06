"""A block of delimited text as a table: Arrow parses it, Python finds the line that is wrong."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dualdnn.data.sources.text_blocks import REMEDY, TextBlock
from dualdnn.errors import DataError

_WHOLE = r"-?[0-9]+"
_DECIMAL = r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
_LONG = 2**63
# Beyond it a float64 no longer holds every whole number.
_EXACT = 2**53
# Three times as fast as parsing a block at once: the memory is used again, and in the cache.
# A line that is longer takes the slow way.
_CHUNK_BYTES = 2 * 2**20
# Arrow reads ' 5', '5 ' and '0x1f' as numbers. A block without these bytes holds none of them.
_SUSPICIOUS = (b" ", b"\t", b"\v", b"\f", b"x", b"X")


@dataclass(frozen=True, kw_only=True)
class Column:
    """What the cells of a column must be. An empty cell is null, and only that.

    Attributes:
        kind: `text` (as it is), `whole` (a number without fraction), `rounded` (the same, but
            9.0 is fine as well: so pandas writes columns with missing values) or `decimal`.
        low: the smallest value, of numbers.
        high: the largest one.
        required: an empty cell is an error.
        kept: False: counted, not read.
    """

    kind: str = "text"
    low: int = -_LONG
    high: int = _LONG - 1
    required: bool = False
    kept: bool = True

    def wanted(self) -> str:
        """The expectation, for messages."""
        kind = "a number" if self.kind == "decimal" else "a whole number"
        if (self.low, self.high) == (-_LONG, _LONG - 1):
            return kind
        return f"{kind} from {self.low} to {self.high}"


LABEL = Column(kind="whole", low=0, high=1, required=True)


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """The layout of a delimited text.

    Attributes:
        columns: name → what its cells must be, in the order of the file unless it has a header.
        separator: one character.
        quoted: a cell in double quotes may hold separators.
    """

    columns: Mapping[str, Column]
    separator: str
    quoted: bool

    def names(self, block: TextBlock) -> tuple[str, ...]:
        """The columns of a block in the order of its file.

        Raises:
            DataError: the header lacks a column, repeats one or has others.
        """
        found = block.header or tuple(self.columns)
        if sorted(found) != sorted(self.columns):
            missing = [name for name in self.columns if name not in found]
            more = [name for name in found if name not in self.columns]
            reason = (f"{missing[0]} is missing" if missing else
                      f"{more[0]} is unknown" if more else "one is there twice")
            raise DataError(f"{block.file}, line 1: expected a header with the columns "
                            f"{', '.join(self.columns)}, each once, got {', '.join(found)}: "
                            f"{reason}. {REMEDY}")
        return found


def parse_block(block: TextBlock, form: TableFormat) -> pa.Table:
    """The rows of a block: text as string, whole and rounded as int64, decimal as float64.

    Args:
        block: whole lines; a carriage return before the end of a line belongs to the end.
        form: their layout.

    Returns:
        A table of shape (block.lines, kept columns), columns in the order of `form`.

    Raises:
        DataError: with file, line and reason, about the first line that is not as `form` says.
            A header in the middle (files put together with their headers) is such a line.
    """
    names = form.names(block)
    table = _by_arrow(block, form, names)
    return _by_lines(block, form, names) if table is None else table


def _read(block: TextBlock, form: TableFormat, names: Sequence[str],
          types: dict[str, pa.DataType]) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(block.data),
        # One thread: blocks are parsed side by side already.
        read_options=pyarrow.csv.ReadOptions(
            column_names=names, use_threads=False, block_size=_CHUNK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=form.separator, quote_char='"' if form.quoted else False,
            ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[""],
            strings_can_be_null=True),
    )


_ARROW_TYPES = {"text": pa.string(), "whole": pa.int64(), "rounded": pa.float64(),
                "decimal": pa.float64()}


def _by_arrow(block: TextBlock, form: TableFormat, names: Sequence[str]) -> pa.Table | None:
    """The table, or None where a line may be wrong."""
    kept = {name: column for name, column in form.columns.items() if column.kept}
    # Arrow would leave out a byte order mark at the start of any block.
    if block.data.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        table = _read(block, form, names,
                      {name: _ARROW_TYPES[column.kind] for name, column in kept.items()})
        arrays = {name: _checked(table[name], column) for name, column in kept.items()}
    except pa.ArrowInvalid:
        return None
    # A line break inside quotes, or a single \r, makes rows differ from lines.
    if table.num_rows != block.lines or any(array is None for array in arrays.values()):
        return None
    numbers = {name: column for name, column in kept.items() if column.kind != "text"}
    suspicious = any(byte in block.data for byte in _SUSPICIOUS
                     if byte != form.separator.encode())
    if numbers and suspicious:
        text = _read(block, form, names, dict.fromkeys(numbers, pa.string()))
        for name, column in numbers.items():
            pattern = _WHOLE if column.kind == "whole" else _DECIMAL
            fits = pc.match_substring_regex(text[name], f"^({pattern})$")
            if pc.all(fits).as_py() is False:
                return None
    return pa.table(arrays)


def _checked(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray | None:
    """The values, as int64 where they are whole; None where one is not as it should be."""
    if column.required and values.null_count:
        return None
    if column.kind == "text":
        return values
    if column.kind != "whole" and pc.all(pc.is_finite(values)).as_py() is False:
        return None
    if column.kind == "rounded":
        if (pc.max(pc.abs(values)).as_py() or 0) >= _EXACT:
            return None
        values = values.cast(pa.int64())
    if column.low > -_LONG or column.high < _LONG - 1:
        ends = pc.min_max(values).as_py()
        if ends["min"] is not None and not column.low <= ends["min"] <= ends["max"] <= column.high:
            return None
    return values


def _by_lines(block: TextBlock, form: TableFormat, names: Sequence[str]) -> pa.Table:
    """As `parse_block`, line by line: slow, and exact about what is wrong where."""
    values: dict[str, list[Any]] = {name: [] for name, column in form.columns.items()
                                    if column.kept}
    for position, line in enumerate(block.data.split(b"\n")[:-1]):
        cells = _cells(block, position, line.removesuffix(b"\r"), form)
        if len(cells) != len(names):
            got = f"got {len(cells)}" if line.strip() else "got an empty line"
            raise block.error(position, f"expected {len(names)} fields separated by "
                                        f"{form.separator!r}, {got}.")
        if tuple(cells) == tuple(names):
            raise block.error(position, "the header comes again; the file was put together from "
                                        "several ones with their headers. Remove this line.")
        for name, cell in zip(names, cells, strict=True):
            if (column := form.columns[name]).kept:
                values[name].append(_value(block, position, name, cell, column))
    types = {"text": pa.string(), "decimal": pa.float64()}
    return pa.table({name: pa.array(column, types.get(form.columns[name].kind, pa.int64()))
                     for name, column in values.items()})


def _cells(block: TextBlock, position: int, line: bytes, form: TableFormat) -> list[str]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise block.error(position, "expected UTF-8 text, got the byte "
                                    f"{line[error.start]:#04x}.") from error
    if "\r" in text:
        raise block.error(position, "expected lines that end with \\n or \\r\\n, got a \\r inside "
                                    "one.")
    if not form.quoted or '"' not in text:
        return text.split(form.separator)
    try:
        return next(csv.reader([text], delimiter=form.separator, strict=True))
    except csv.Error as error:
        raise block.error(position, f"the quotes do not match: {error}.") from error


def _value(block: TextBlock, position: int, name: str, cell: str, column: Column) -> Any:
    if not cell:
        if column.required:
            expected = "text" if column.kind == "text" else column.wanted()
            raise block.error(position, f"{name} must be {expected}, got an empty cell.")
        return None
    if column.kind == "text":
        return cell
    sound = re.fullmatch(_WHOLE if column.kind == "whole" else _DECIMAL, cell)
    number: Any = None
    if sound and column.kind == "whole":
        number = int(cell) if len(cell) < 25 else None
    elif sound:
        number = float(cell)
        if column.kind == "rounded":
            number = int(number) if number.is_integer() and abs(number) < _EXACT else None
        elif abs(number) == float("inf"):
            number = None
    if number is None or not column.low <= number <= column.high:
        raise block.error(position, f"{name} must be {column.wanted()}, got {cell[:80]!r}.")
    return number
