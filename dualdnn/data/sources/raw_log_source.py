"""What the sources of raw logs share: checking `data.raw`, and building or using the lake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dualdnn.data.sources.lake_builder import build_lake, log_lake_is_current
from dualdnn.data.sources.lake_writer import is_own_lake
from dualdnn.data.sources.raw_log import LogOrigin, RawLog
from dualdnn.errors import ConfigError, DataError

_LEAST_BLOCK = 2**10
_LARGEST_BLOCK = 2**30
Found = TypeVar("Found")


def raw_mistakes(
    raw: str | None,
    lake: Path,
    *,
    find: Callable[[Path], tuple[str, Found] | None],
    expected: str,
    offer: str,
    block_bytes: int,
    threads: int | None,
) -> tuple[list[str], str | None]:
    """What is wrong with the settings that every raw log has, one sentence each.

    Args:
        raw: `data.raw`.
        lake: where the lake will be built; once it is there, `raw` is no longer needed.
        find: what there is at a path: its layout and files; None for nothing of use.
        expected: the names that `find` accepts, for messages.
        offer: who offers them where.
        block_bytes: text per block.
        threads: or None.

    Returns:
        the sentences, and the layout if `raw` has one.
    """
    found, layout = [], None
    if raw is None and is_own_lake(lake):
        pass
    elif not raw:
        found.append(f"data.raw: expected {expected}, got {raw!r}. {offer}; download it and pass "
                     "data.raw=PATH.")
    elif not (path := Path(raw)).exists():
        found.append(f"data.raw: expected {expected}, got {raw!r}, which does not exist. {offer}.")
    elif ".tar" in path.suffixes or path.suffix == ".tgz":
        found.append(f"data.raw: expected {expected}, got {raw!r}. Unpack it with `tar xf` and "
                     "pass the folder.")
    else:
        try:
            layout = find(path)
        except DataError as error:
            found.append(f"data.raw: {error}")
        else:
            if layout is None:
                there = "another file"
                if path.is_dir():
                    names = sorted(one.name for one in path.iterdir())
                    there = ", ".join(names[:8]) or "nothing"
                found.append(f"data.raw: expected {expected}, found {there} in {raw}. {offer}.")
    if not _LEAST_BLOCK <= block_bytes <= _LARGEST_BLOCK:
        found.append(f"data.source.block_bytes must lie between {_LEAST_BLOCK} and "
                     f"{_LARGEST_BLOCK}, got {block_bytes}.")
    if threads is not None and threads < 1:
        found.append(f"data.source.threads must be >= 1 or null, got {threads}.")
    return found, layout[0] if layout else None


def prepare_log(lake: Path, *, origin: LogOrigin, raw: RawLog | None, block_bytes: int,
                threads: int | None) -> None:
    """Build the lake, or use the one that is there.

    Args:
        lake: the folder.
        origin: what its rows should be.
        raw: the files; None: the lake must be there.
        block_bytes: text per block.
        threads: see `build_lake`.

    Raises:
        ConfigError: there is no `raw`, and the lake was built with other settings.
        DataError: as `build_lake`.
    """
    if raw is not None:
        build_lake(lake, origin=origin, raw=raw, block_bytes=block_bytes, threads=threads)
    elif not log_lake_is_current(lake, origin, None):
        raise ConfigError(f"{lake} is not complete, or was built with other settings than "
                          f"{dict(origin.settings)} of data.source. Pass data.raw=PATH to build "
                          "it again.")
