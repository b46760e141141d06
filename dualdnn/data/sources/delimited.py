"""Delimited text, read strictly: a damaged file ends with its name, the line and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualdnn.errors import DataError

_REMEDY = "The file is damaged or not the original one; get it again."


@dataclass(frozen=True, kw_only=True)
class DelimitedText:
    """The columns of one file as text.

    Attributes:
        where: names the file in messages.
        first_line: line number of the first row, counted from 1.
        columns: name → one string per row.
    """

    where: str
    first_line: int
    columns: dict[str, list[str]]

    def error(self, position: int, message: str) -> DataError:
        """An error about the row at `position`, with its line number and what to do."""
        return DataError(f"{self.where}, line {self.first_line + position}: {message} {_REMEDY}")

    def integers(
        self, name: str, *, low: int, high: int, unit: str = ""
    ) -> npt.NDArray[np.int64]:
        """A column as whole numbers, shape (num_rows,).

        Raises:
            DataError: a value is no plain decimal number from `low` to `high`.
        """
        values = self.columns[name]
        # All at once where all is well; one by one only to find the line to blame.
        text = "".join(values)
        if text.isascii() and text.isdigit() and all(values) and max(map(len, values)) < 19:
            numbers = np.fromiter(map(int, values), np.int64, len(values))
            if low <= numbers.min() and numbers.max() <= high:
                return numbers
        for position, value in enumerate(values):
            # int() alone would also take '1_000', ' 7' and digits of other scripts.
            plain = value.isascii() and value.isdigit() and len(value) < 19
            if not plain or not low <= int(value) <= high:
                raise self.error(
                    position,
                    f"{name} must be a whole number from {low} to {high}{unit}, got {value!r}.")
        return np.array([int(value) for value in values], np.int64)

    def unique_integers(self, name: str, *, low: int, high: int) -> npt.NDArray[np.int64]:
        """A column of whole numbers that names every row once, shape (num_rows,).

        Raises:
            DataError: as `integers`, or a number occurs twice.
        """
        numbers = self.integers(name, low=low, high=high)
        first: dict[int, int] = {}
        for position, number in enumerate(numbers.tolist()):
            if number in first:
                raise self.error(
                    position,
                    f"{name} {number} was already described in line "
                    f"{self.first_line + first[number]}; expected every {name} once.")
            first[number] = position
        return numbers


def _lines(data: bytes, *, where: str, encoding: str) -> list[str]:
    if not data:
        raise DataError(f"{where} is empty (0 bytes); expected lines of text. {_REMEDY}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}, line {line}: expected {encoding} text, got the byte "
            f"{data[error.start]:#04x}. {_REMEDY}"
        ) from error
    # Not splitlines(): in latin-1 the byte 0x85 would count as the end of a line.
    lines = text.replace("\r\n", "\n").split("\n")
    if lines.pop() != "":
        raise DataError(
            f"{where}, line {len(lines) + 1}: expected the file to end with the end of a line, "
            f"got the end of the file inside one; it looks cut off. {_REMEDY}"
        )
    return lines


def _columns(
    lines: list[str], *, where: str, separator: str, names: Sequence[str], first_line: int
) -> DelimitedText:
    if not lines:
        raise DataError(f"{where} holds no rows; expected at least one. {_REMEDY}")
    rows = [line.split(separator) for line in lines]
    for position, row in enumerate(rows):
        if len(row) != len(names):
            raise DataError(
                f"{where}, line {first_line + position}: expected {len(names)} fields separated "
                f"by {separator!r} ({', '.join(names)}), got {len(row)}. {_REMEDY}"
            )
    columns = {name: list(column) for name, column in zip(names, zip(*rows, strict=True),
                                                          strict=True)}
    return DelimitedText(where=where, first_line=first_line, columns=columns)


def read_bare(
    data: bytes, *, where: str, encoding: str, separator: str, names: Sequence[str]
) -> DelimitedText:
    """Read text without a header; `names` gives the columns in order.

    Raises:
        DataError: the text is empty, cut off, wrongly encoded, or a line has another number of
            fields.
    """
    lines = _lines(data, where=where, encoding=encoding)
    return _columns(lines, where=where, separator=separator, names=names, first_line=1)


def read_typed_header(
    data: bytes, *, where: str, encoding: str, separator: str, names: Sequence[str]
) -> DelimitedText:
    """Read text whose first line names the columns as `name:type`, in any order.

    Raises:
        DataError: as `read_bare`, or the header repeats a column or lacks one of `names`.
    """
    lines = _lines(data, where=where, encoding=encoding)
    found = [cell.split(":")[0] for cell in lines[0].split(separator)] if lines else []
    repeated = sorted({name for name in found if found.count(name) > 1})
    missing = [name for name in names if name not in found]
    if repeated or missing:
        reason = f"{repeated[0]} is there twice" if repeated else f"{missing[0]} is missing"
        raise DataError(
            f"{where}, line 1: expected a header with the columns {', '.join(names)}, each once, "
            f"got {', '.join(found)}: {reason}. {_REMEDY}"
        )
    return _columns(lines[1:], where=where, separator=separator, names=found, first_line=2)
