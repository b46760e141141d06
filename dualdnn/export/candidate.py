"""An accepted candidate becomes the next version and the champion."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dualdnn.errors import DataError, StaleChampionError
from dualdnn.export.champion import Champion, champion_of, utc_now
from dualdnn.export.promotion import Registry, model_lock, promote_locked, repair_locked
from dualdnn.export.versions import (
    MANIFEST_FILE,
    faults_of,
    last_version,
    read_manifest,
    record_last_version,
    version_numbers,
)
from dualdnn.storage import atomic_folder, remove_in_order, write_json


def _published_before(folder: Path, candidate: Mapping[str, Any]) -> int | None:
    """The version made of this candidate by an earlier try that was killed."""
    for version in reversed(version_numbers(folder)):
        try:
            manifest = read_manifest(folder / str(version))
        except DataError:
            continue
        if manifest["sha256"] == candidate["sha256"]:
            return version
    return None


def _write(candidate: Path, write_state: Callable[[Path], None], folder: Path, state: Path,
           manifest: Mapping[str, Any]) -> None:
    """The training state, then the version; neither where one of them fails."""
    version = manifest["version"]
    try:
        # First of all: a number is never given twice, whatever becomes of this version.
        record_last_version(folder, version)
        with atomic_folder(state / str(version)) as temporary:
            write_state(temporary)
        with atomic_folder(folder / str(version)) as temporary:
            shutil.copytree(candidate, temporary, dirs_exist_ok=True)
            write_json(temporary / MANIFEST_FILE, manifest)
            faults = faults_of(temporary, version)
            if faults:
                raise DataError(f"the candidate {candidate} is not as it was exported: "
                                f"{' '.join(faults)} Nothing was published; export it again.")
    except BaseException as error:
        # On a full disk it would be in the way.
        remove_in_order(state / str(version))
        if not isinstance(error, OSError):
            raise
        raise DataError(f"version {version} could not be written below {folder} and {state}: "
                        f"{error}. Nothing was published; make room, or mend the disk, and "
                        "repeat the command.") from error


def publish_candidate(
    *,
    candidate: Path,
    write_state: Callable[[Path], None],
    folder: Path,
    state: Path,
    reason: str,
    manifest: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    replaces: int | None = None,
) -> Champion:
    """Publish what the gate has accepted, and promote it.

    In this order: the number is used up, the training state, the version, `champion.json`,
    `models.config`, the registry. Killed in between, the same call again completes it and makes
    no second version of the same candidate.

    Args:
        candidate: version folder outside of `folder`, as `saved_model.publish` made it; copied.
        write_state: fills the training state into the empty folder that it is given.
        folder: `exported_models/NAME`.
        state: `paths.state/NAME`; the training state becomes `state/VERSION`.
        reason: kept in `champion.json`.
        manifest: values to add to the candidate's manifest, such as the gate's decision.
            `created`, `version` and `parent_version`, the champion so far, are added anyway.
        registry: follows the champion.
        replaces: the champion that the candidate was compared with, if it may replace no other.

    Raises:
        StaleChampionError: the champion is another one by now.
        DataError: the candidate is not as it was exported, or the disk is full; the champion
            is unchanged.
        LockError: another process works on the same model.
    """
    given = read_manifest(candidate)
    folder.mkdir(parents=True, exist_ok=True)
    with model_lock(folder):
        repair_locked(folder, state, registry)
        version = _published_before(folder, given)
        if version is None:
            version = last_version(folder) + 1
            parent = champion_of(folder)
            if replaces is not None and (parent is None or parent.version != replaces):
                raise StaleChampionError(
                    f"{folder} has another champion by now, "
                    f"{parent.version if parent else 'none'} instead of {replaces}. Nothing was "
                    "published; go on from that one.")
            described = {
                "created": utc_now(), "parent_version": parent.version if parent else None,
                **given, **(manifest or {}), "version": version,
            }
            _write(candidate, write_state, folder, state, described)
        return promote_locked(folder, version, reason, state=state, registry=registry)
