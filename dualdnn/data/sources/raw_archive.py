"""A raw data set as its owners publish it: a zip archive, or a folder of what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualdnn.errors import DataError
from dualdnn.storage import sha256_of_file


@dataclass(frozen=True, kw_only=True)
class RawArchive:
    """Files by name, whatever holds them.

    Attributes:
        holds: whether there is a file of this name.
        read: from a name to how messages call the file, and its bytes.
    """

    holds: Callable[[str], bool]
    read: Callable[[str], tuple[str, bytes]]


@contextlib.contextmanager
def opened_archive(path: Path) -> Iterator[RawArchive]:
    """Open a zip archive or a folder.

    Raises:
        DataError: it is no zip archive, damaged or cut off, or cannot be read; also while it is
            open.
    """
    try:
        if path.is_dir():
            yield RawArchive(holds=lambda name: (path / name).is_file(),
                             read=lambda name: (str(path / name), (path / name).read_bytes()))
            return
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            yield RawArchive(holds=names.__contains__,
                             read=lambda name: (f"{path.name}: {name}", archive.read(name)))
    # zipfile raises NotImplementedError for a method it does not know and RuntimeError
    # for an encrypted member.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
            RuntimeError) as error:
        kind = "as a folder" if path.is_dir() else "as a zip archive"
        raise DataError(f"{path} cannot be read {kind}: {error}. It is damaged or cut off; get "
                        "it again.") from error


def archive_sha256(path: Path, files: Sequence[str]) -> str:
    """Hex digest that names the content of an archive, or of `files` in a folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if not path.is_dir():
            return sha256_of_file(path)
        text = "".join(f"{name} {sha256_of_file(path / name)}\n" for name in files)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Pass data.raw= something readable.") \
            from error
    return hashlib.sha256(text.encode()).hexdigest()


def raw_mistakes(raw: object, *, archive: str, files: Sequence[str], name: str) -> list[str]:
    """What is wrong with `data.raw`, one sentence each; reads no data.

    Args:
        raw: an archive or a folder; None fetches the data.
        archive: file name of the official archive.
        files: what a folder must hold.
        name: what is fetched, for messages.
    """
    if raw is None:
        return []
    expected = f"the official {archive} or a folder with {', '.join(files)}"
    path = Path(str(raw))
    if not str(raw) or not path.exists():
        return [f"data.raw: expected {expected}, got {str(raw)!r}, which does not exist. Leave "
                f"data.raw out to fetch {name}."]
    if path.is_dir() and (missing := [file for file in files if not (path / file).is_file()]):
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        return [f"data.raw: expected {expected}, but {path} lacks {', '.join(missing)}; found "
                f"{there}."]
    return []
