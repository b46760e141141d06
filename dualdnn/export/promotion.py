"""Which version is served: promote, roll back, try beside, and repair what follows from it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dualdnn.errors import DataError
from dualdnn.export.champion import (
    Champion,
    champion_of,
    utc_now,
    write_champion,
    write_models_config,
)
from dualdnn.export.versions import MANIFEST_FILE, faults_of, last_version, version_numbers
from dualdnn.storage import lock, remove_in_order, remove_leftovers

_log = logging.getLogger("dualdnn")
# A publish takes a second or a few; a daily job should not end because an online one was at it.
LOCK_SECONDS = 30.0


def model_lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The lock of whoever changes `exported_models/NAME`, waited for if it is held for moments."""
    return lock(folder / ".lock", wait=LOCK_SECONDS)


class Registry(Protocol):
    """A model registry that follows `champion.json`. It must not raise: a publish goes on."""

    def follow(self, *, name: str, versions: Mapping[int, Path], champion: int) -> None:
        """Know exactly `versions` of the model `name`, and point its alias at the champion."""


def _remove_orphans(folder: Path, state: Path, champion: Champion | None) -> None:
    """Training states that a killed publish or prune left without a version.

    Only numbers that this folder has given: below an unmounted `exported_models` there are none.
    And none of a version that nothing here would have deleted: somebody may restore it.
    """
    remove_leftovers(state)
    # A state is written under the lock before its version is, so none here awaits its version.
    known = {*version_numbers(folder), *(champion.in_use if champion else ())}
    last = last_version(folder)
    orphans = [number for number in version_numbers(state) if number not in known]
    remove_in_order(*(state / str(number) for number in orphans if number <= last))


def _follow(folder: Path, champion: Champion, registry: Registry | None) -> None:
    """Bring what is derived from `champion.json` in line with it."""
    write_models_config(folder, champion)
    if registry:
        paths = {number: folder / str(number) for number in version_numbers(folder)}
        registry.follow(
            name=folder.name, champion=champion.version,
            versions={number: path for number, path in paths.items()
                      if (path / MANIFEST_FILE).exists()},
        )


def repair_locked(folder: Path, state: Path | None, registry: Registry | None) -> Champion | None:
    """`repair` for whoever holds the lock of `folder`."""
    remove_leftovers(folder)
    champion = champion_of(folder)
    if state:
        _remove_orphans(folder, state, champion)
    if champion is None:
        return None
    if not (folder / str(champion.version)).is_dir():
        _log.warning("%s names version %d, whose folder is gone. Restore it, or roll back.",
                     folder / "champion.json", champion.version)
    _follow(folder, champion, registry)
    return champion


def repair(folder: Path, *, state: Path | None = None,
           registry: Registry | None = None) -> Champion | None:
    """Make everything agree with `champion.json`, whatever was killed before.

    Every function of this module and its neighbours that changes something does this first.

    Args:
        folder: `exported_models/NAME`.
        state: `paths.state/NAME`, where training states without a version are removed.
        registry: follows the champion.

    Returns:
        the champion; None where there is none, or no such folder.

    Raises:
        DataError: `champion.json` cannot be read.
        LockError: another process works on the same model.
    """
    if not folder.is_dir():
        return None
    with model_lock(folder):
        return repair_locked(folder, state, registry)


def _refuse_unsound(folder: Path, version: int) -> None:
    """Nobody serves what is not as it was published."""
    numbers = version_numbers(folder)
    if version not in numbers:
        raise DataError(f"{folder} has no version {version}; there are "
                        f"{', '.join(map(str, numbers)) or 'none'}.")
    faults = faults_of(folder / str(version))
    if faults:
        raise DataError(
            f"version {version} of {folder} is not as it was published and is never promoted: "
            f"{' '.join(faults)} Restore its files, or choose another version."
        )


def _training_state(state: Path | None, version: int) -> str | None:
    if state is None:
        return None
    path = state / str(version)
    if path.is_dir():
        return str(path.absolute())
    _log.warning("version %d has no training state at %s: it can be served, but nothing can "
                 "warm-start from it.", version, path)
    return None


def promote_locked(folder: Path, version: int, reason: str, *, action: str = "promote",
                   trail: Sequence[int] | None = None, state: Path | None = None,
                   registry: Registry | None = None) -> Champion:
    """`promote` for whoever holds the lock and has repaired; `trail` as in `Champion`."""
    champion = champion_of(folder)
    if champion and champion.version == version:
        return champion
    _refuse_unsound(folder, version)
    if trail is None:
        trail = [champion.version, *champion.trail] if champion else []
    numbers = version_numbers(folder)
    trail = [one for one in dict.fromkeys(trail) if one in numbers and one != version]
    changed = Champion(
        version=version, previous=trail[0] if trail else None, earlier=trail[1:], since=utc_now(),
        action=action, reason=reason, training_state=_training_state(state, version), canary=None,
    )
    write_champion(folder, changed)
    _follow(folder, changed, registry)
    return changed


def promote(folder: Path, version: int, reason: str, *, state: Path | None = None,
            registry: Registry | None = None) -> Champion:
    """Make a version the champion. A trial of a canary ends with it.

    Args:
        folder: `exported_models/NAME`.
        version: to be served; nothing changes where it is the champion already.
        reason: kept in `champion.json`.
        state: `paths.state/NAME`; its folder of that version becomes the training state.
        registry: follows the champion.

    Raises:
        DataError: there is no such version, it is not as it was published, or the disk is full;
            the champion is unchanged.
        LockError: another process works on the same model.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not there: no version was ever published under that name.")
    with model_lock(folder):
        repair_locked(folder, state, registry)
        return promote_locked(folder, version, reason, state=state, registry=registry)


def rollback(folder: Path, version: int | None = None, reason: str | None = None, *,
             state: Path | None = None, registry: Registry | None = None) -> Champion:
    """Serve an earlier version again.

    The version that is left does not become a rollback target, so that a second rollback goes
    further back; `promote` returns to it.

    Args:
        folder: `exported_models/NAME`.
        version: any version; None for the previous champion.
        reason: kept in `champion.json`.
        state: `paths.state/NAME`.
        registry: follows the champion.

    Raises:
        DataError: as `promote`; or there is no champion, or none before it.
        LockError: another process works on the same model.
    """
    if champion_of(folder) is None:
        raise DataError(f"{folder} has no champion to roll back from. Promote a version first.")
    with model_lock(folder):
        champion = repair_locked(folder, state, registry)
        assert champion is not None
        if version is None and champion.previous is None:
            raise DataError(
                f"version {champion.version} of {folder} has no champion before it that is still "
                f"there. Name a version: {', '.join(map(str, version_numbers(folder)))}."
            )
        target = champion.previous if version is None else version
        assert target is not None
        trail = champion.trail
        if target in trail:
            trail = trail[trail.index(target) + 1:]
        return promote_locked(
            folder, target, reason or f"rolled back from version {champion.version}",
            action="rollback", trail=trail, state=state, registry=registry)


def set_canary(folder: Path, version: int | None, *, state: Path | None = None,
               registry: Registry | None = None) -> Champion:
    """Serve a version beside the champion, labelled `canary`; None ends the trial.

    Args:
        folder: `exported_models/NAME`.
        version: on trial.
        state: `paths.state/NAME`.
        registry: follows the champion.

    Raises:
        DataError: as `promote`; or there is no champion, or it is that version.
        LockError: another process works on the same model.
    """
    if champion_of(folder) is None:
        raise DataError(f"{folder} has no champion to try a canary beside. Promote a version.")
    with model_lock(folder):
        champion = repair_locked(folder, state, registry)
        assert champion is not None
        if version == champion.version:
            raise DataError(f"version {version} of {folder} is the champion. Try another one.")
        if version is not None:
            _refuse_unsound(folder, version)
        changed = replace(champion, canary=version)
        write_champion(folder, changed)
        return changed
