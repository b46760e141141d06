"""Which versions are kept: the others go, each with its training state."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Collection, Sequence
from pathlib import Path

from dualdnn.errors import ConfigError, DataError
from dualdnn.export.promotion import Registry, model_lock, repair_locked
from dualdnn.export.versions import (
    Version,
    last_version,
    read_manifest,
    record_last_version,
    versions_of,
)
from dualdnn.storage import lock, remove_in_order


def policy_mistakes(keep: int | None, keep_days: float | None, where: str = "") -> list[str]:
    """What is wrong with a retention policy, one sentence each."""
    found = []
    if keep is None and keep_days is None:
        found.append(f"{where}keep or {where}keep_days must say which versions stay; both are "
                     f"null. Use {where}keep=10 for the newest ten.")
    if keep is not None and keep < 1:
        found.append(f"{where}keep must be >= 1 version, got {keep}.")
    if keep_days is not None and not keep_days >= 0:
        found.append(f"{where}keep_days must be >= 0 days, got {keep_days}.")
    return found


def _superfluous(versions: Sequence[Version], in_use: Sequence[int], keep: int | None,
                 oldest: str | None) -> list[Version]:
    """The versions that no rule keeps; `versions` newest first."""
    sound, found = 0, []
    for version in versions:
        # A broken version keeps its place in time, and takes none of the places.
        is_kept = ((keep is not None and sound < keep)
                   or (oldest is not None and version.created >= oldest))
        sound += version.status != "broken"
        if not is_kept and version.version not in in_use:
            found.append(version)
    return found


def _offline_versions(folder: Path, versions: Collection[int]) -> set[int | None]:
    """Where the students of some versions, which went on alone, came from."""
    found = set()
    for version in versions:
        with contextlib.suppress(DataError):  # a broken one is reported elsewhere
            found.add(read_manifest(folder / str(version)).get("offline_version"))
    return found


def daily_turn(state: Path, *, wait: bool | float) -> contextlib.AbstractContextManager[None]:
    """The lock of the daily jobs of a model, which may put any version before their gate.

    Whoever else prunes takes it, so that no version goes while such a job is at work; that job
    prunes at its own end.

    Args:
        state: `paths.state/NAME`.
        wait: see `dualdnn.storage.lock`.
    """
    return lock(state / ".daily.lock", wait=wait)


def prune(folder: Path, state: Path, *, keep: int | None = None, keep_days: float | None = None,
          now: datetime.datetime | None = None, registry: Registry | None = None) -> list[Version]:
    """Delete versions and their training states; never the champion, never what it returns to.

    Where the student of a version that stays went on alone, the offline version that it came from
    stays too: nobody could go on from the one without the other.

    A version's folder goes first, by one rename, then its training state: a published version
    always has one. What a kill leaves of either is cleared away by the next command.

    Args:
        folder: `exported_models/NAME`.
        state: `paths.state/NAME`.
        keep: the newest so many sound versions stay.
        keep_days: versions made in the last so many days stay as well.
        now: UTC; what `keep_days` counts from. None takes the clock.
        registry: forgets the deleted versions.

    Returns:
        the deleted versions, newest first.

    Raises:
        ConfigError: no policy, or one that keeps nothing.
        LockError: another process works on the same model.
    """
    mistakes = policy_mistakes(keep, keep_days)
    if mistakes:
        raise ConfigError(mistakes)
    if not folder.is_dir():
        return []
    oldest = None
    if keep_days is not None:
        since = (now or datetime.datetime.now(datetime.UTC)) - datetime.timedelta(days=keep_days)
        oldest = since.strftime("%Y-%m-%dT%H:%M:%SZ")
    with model_lock(folder):
        champion = repair_locked(folder, state, registry)
        in_use = champion.in_use if champion else ()
        versions = versions_of(folder)
        gone = _superfluous(versions, in_use, keep, oldest)
        needed = _offline_versions(
            folder, {one.version for one in versions} - {one.version for one in gone})
        gone = [one for one in gone if one.version not in needed]
        # Also where versions were copied here: their numbers stay used, and with that their
        # training states are known to be ours.
        record_last_version(folder, last_version(folder))
        for version in gone:
            remove_in_order(version.path, state / str(version.version))
        if gone:
            repair_locked(folder, state, registry)
        return gone
