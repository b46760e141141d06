"""Text of any size, plain or compressed, as blocks of whole lines in bounded memory."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dualdnn.errors import DataError

REMEDY = "The file is damaged or not the original one; get it again."
# With larger ones the memory of a block is taken from the system anew each time: a fifth slower.
BLOCK_BYTES = 16 * 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A text on disk: a plain, .gz or .bz2 file, or a member of a .zip archive.

    Attributes:
        path: the file.
        member: the name inside the archive, None where `path` is the text itself.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """The name of the text without folders and without .gz or .bz2."""
        name = Path(self.member or self.path).name
        return name.removesuffix(".gz").removesuffix(".bz2")

    def __str__(self) -> str:
        return f"{self.member} in {self.path}" if self.member else str(self.path)

    def stamp(self) -> dict[str, Any]:
        """Name, size and time of modification: equal stamps mean nobody touched the file."""
        stat = self.path.stat()
        return {"name": self.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


@dataclass(frozen=True, kw_only=True)
class TextBlock:
    """Whole lines of one file.

    Attributes:
        file: where they stand.
        data: UTF-8 text that ends with the end of a line.
        first_line: line number of the first one, counted from 1.
        first_row: the same without the header, counted from 0.
        lines: their number.
        header: the names in the first line of the file, empty where it has none.
    """

    file: TextFile
    data: bytes
    first_line: int
    first_row: int
    lines: int
    header: tuple[str, ...]

    def error(self, position: int, message: str) -> DataError:
        """An error about the line at `position` of this block, with file and line number."""
        return DataError(f"{self.file}, line {self.first_line + position}: {message} {REMEDY}")


def texts_in(place: Path) -> dict[str, TextFile]:
    """The texts of a folder, or of all folders of a zip archive, by `TextFile.name`.

    Where a folder holds a text both plain and compressed, the plain one counts.

    Args:
        place: a folder or a zip archive.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        if place.is_dir():
            files = [TextFile(path=path) for path in sorted(place.iterdir()) if path.is_file()]
        else:
            with zipfile.ZipFile(place) as archive:
                files = [TextFile(path=place, member=name) for name in sorted(archive.namelist())
                         if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{place} cannot be read: {error}. {REMEDY}") from error
    # Sorted names put a.csv before a.csv.bz2 and a.csv.gz.
    return {file.name: file for file in reversed(files)}


class BlockReader:
    """Iterates over the blocks of a text, once.

    A block ends at the last end of a line within `block_bytes` of text, so that the same text
    gives the same blocks, compressed or not.

    Args:
        file: what to read.
        header: the first line names columns, separated by commas.
        block_bytes: text per block; the longest line must fit.
        md5: also compute the md5 of the text, for files whose owners publish it.

    Attributes:
        done_bytes: read so far, of the `total_bytes` on disk (of the text inside a zip archive).
        total_bytes: all there is to read.
    """

    def __init__(self, file: TextFile, *, header: bool, block_bytes: int = BLOCK_BYTES,
                 md5: bool = False) -> None:
        self.file, self.block_bytes = file, block_bytes
        self._header = header
        self._hashes = {"sha256": hashlib.sha256()}
        if md5:
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)
        self.done_bytes, self.total_bytes = 0, text_bytes(file)

    def digest(self, name: str) -> str:
        """Hex digest of the text read so far: `sha256`, or `md5` where asked for."""
        return self._hashes[name].hexdigest()

    def __iter__(self) -> Iterator[TextBlock]:
        """Yield the blocks in order.

        Raises:
            DataError: the file is empty, cut off, damaged or cannot be read; with the line.
        """
        line, row, rest = 1, 0, b""
        names: tuple[str, ...] = ()
        with _opened(self.file) as (stream, raw):
            while True:
                chunk = self._read(stream, self.block_bytes - len(rest), line + rest.count(b"\n"))
                self.done_bytes = self.total_bytes if not chunk else (raw or stream).tell()
                if line == 1 and not rest:
                    chunk = chunk.removeprefix(_BOM)
                data = rest + chunk
                if not data:
                    break
                end = data.rfind(b"\n") + 1
                if not chunk or not end:
                    raise self._unfinished(line, at_end=not chunk)
                data, rest = data[:end], data[end:]
                if self._header and not names:
                    first, _, data = data.partition(b"\n")
                    names, line = self._names(first), 2
                lines = data.count(b"\n")
                if lines:
                    yield TextBlock(file=self.file, data=data, first_line=line, first_row=row,
                                    lines=lines, header=names)
                line, row = line + lines, row + lines
        if row == 0:
            raise DataError(f"{self.file} holds no rows; expected lines of text. {REMEDY}")

    def _read(self, stream: IO[bytes], size: int, line: int) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        pieces = []
        try:
            while size and (piece := stream.read(size)):
                pieces.append(piece)
                size -= len(piece)
        except (EOFError, zlib.error, zipfile.BadZipFile, OSError) as error:
            done = line + sum(piece.count(b"\n") for piece in pieces)
            raise DataError(f"{self.file}, line {done} or soon after: the file is cut off or "
                            f"damaged: {error}. Get it again.") from error
        chunk = b"".join(pieces)
        for one in self._hashes.values():
            one.update(chunk)
        return chunk

    def _unfinished(self, line: int, *, at_end: bool) -> DataError:
        if at_end:
            return DataError(f"{self.file}, line {line}: expected the file to end with the end "
                             "of a line, got the end of the file inside one; it looks cut off. "
                             f"{REMEDY}")
        return DataError(f"{self.file}, line {line}: expected lines shorter than "
                         f"{self.block_bytes} bytes, got a longer one. {REMEDY}")

    def _names(self, line: bytes) -> tuple[str, ...]:
        try:
            return tuple(next(csv.reader([line.removesuffix(b"\r").decode()]), ()))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.file}, line 1: expected a header of column names, got "
                            f"something else: {error}. {REMEDY}") from error


def text_bytes(file: TextFile) -> int:
    """What `BlockReader.total_bytes` counts."""
    if file.member is None:
        return file.path.stat().st_size
    with zipfile.ZipFile(file.path) as archive:
        return archive.getinfo(file.member).file_size


def text_sha256(file: TextFile) -> str:
    """Hex digest of the uncompressed text.

    Raises:
        DataError: as iterating over a `BlockReader`.
    """
    digest = hashlib.sha256()
    with _opened(file) as (stream, _):
        try:
            while chunk := stream.read(2**20):
                digest.update(chunk)
        except (EOFError, zlib.error, zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{file} is cut off or damaged: {error}. Get it again.") from error
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(file: TextFile) -> Iterator[tuple[IO[bytes], IO[bytes] | None]]:
    """The stream of text, and the compressed file below it where its position says more."""
    with contextlib.ExitStack() as held:
        try:
            if file.member is not None:
                archive = held.enter_context(zipfile.ZipFile(file.path))
                opened: Sequence[Any] = (held.enter_context(archive.open(file.member)), None)
            else:
                raw = held.enter_context(open(file.path, "rb"))
                if file.path.suffix == ".gz":
                    opened = held.enter_context(gzip.GzipFile(fileobj=raw)), raw
                elif file.path.suffix == ".bz2":
                    opened = held.enter_context(bz2.BZ2File(raw)), raw
                else:
                    opened = raw, None
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{file} cannot be read: {error}.") from error
        yield opened[0], opened[1]
