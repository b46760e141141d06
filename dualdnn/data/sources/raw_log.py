"""A raw log: its files, how they are read, and what its rows are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dualdnn.data.sources.text_blocks import TextBlock, TextFile

TableOf = Callable[[TextBlock, tuple[int, ...]], pa.Table]


@dataclass(frozen=True, kw_only=True)
class LogOrigin:
    """What the rows of a lake are.

    Attributes:
        source: name of the public data set.
        address: where its owners offer it.
        licence: what they ask for, in a line.
        citation: the publication to cite.
        settings: what else decides about the rows; plain values.
    """

    source: str
    address: str
    licence: str
    citation: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RawLog:
    """The files of a log and how they are read.

    Attributes:
        files: in the order of their rows.
        header: the first line of each names the columns.
        beside: files that `open_table` reads on its own.
        md5: name of a file → md5 of its text, as its owners publish it; verified if given.
        open_table: called once, when the lake has to be built; returns the function that turns
            a block and the numbers of rows of all earlier files into a table with an integer
            column `timestamp`, seconds since the epoch, UTC. It is called from several threads.
    """

    files: Sequence[TextFile]
    header: bool
    open_table: Callable[[], TableOf]
    beside: Sequence[TextFile] = ()
    md5: Mapping[str, str] = field(default_factory=dict)

    def stamps(self) -> list[dict[str, Any]]:
        """The stamps of all files."""
        return [file.stamp() for file in (*self.files, *self.beside)]
