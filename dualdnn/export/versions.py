"""The versions of a model: what is there, what it came from, and whether it is sound."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualdnn.errors import DataError
from dualdnn.export.champion import Champion, champion_of
from dualdnn.storage import sha256_of_file, write_json

MANIFEST_FILE = "manifest.json"
_LAST_VERSION_FILE = ".last_version"
_LINEAGE = ("days", "data_fingerprint", "fingerprints", "schema_hash", "git_revision",
            "run_folder", "parent_version")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version folder.

    Attributes:
        version: its number.
        path: its folder.
        status: `champion`; `previous`, which a rollback returns to; `earlier`, a champion before
            that; `canary`; `candidate`, never promoted; or `broken`, whatever it was before.
        faults: why it is broken, one sentence each.
        created: UTC, as `2026-11-22T13:04:00Z`.
        metrics: of the manifest.
        lineage: of the manifest: days, fingerprints, git revision, version it started from.
        bytes: of all its files.
    """

    version: int
    path: Path
    status: str
    faults: Sequence[str]
    created: str
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]
    bytes: int


def version_numbers(folder: Path) -> list[int]:
    """Numbers of the version folders below `exported_models/NAME`, ascending."""
    if not folder.is_dir():
        return []
    # `007` is no version: its number has another folder.
    return sorted(int(path.name) for path in folder.iterdir()
                  if path.name.isdecimal() and str(int(path.name)) == path.name and path.is_dir())


def last_version(folder: Path) -> int:
    """The highest number that was ever given to a version, pruned ones included."""
    record = folder / _LAST_VERSION_FILE
    recorded = int(record.read_text(encoding="utf-8")) if record.exists() else 0
    return max([recorded, *version_numbers(folder)])


def record_last_version(folder: Path, version: int) -> None:
    """Keep `version` and all below it from being given again."""
    record = folder / _LAST_VERSION_FILE
    if not record.exists() or int(record.read_text(encoding="utf-8")) < version:
        write_json(record, version)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a version folder.

    Raises:
        DataError: it is missing or is not one.
    """
    try:
        manifest = json.loads((path / MANIFEST_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} has no {MANIFEST_FILE}") from None
    except ValueError as error:
        raise DataError(f"{path / MANIFEST_FILE} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), dict):
        raise DataError(f"{path / MANIFEST_FILE} lists no sha256 of the files")
    return manifest


def faults_of(path: Path, version: int | None = None) -> list[str]:
    """Why a version folder is not as it was published; empty where it is.

    Every file is read.

    Args:
        path: the folder.
        version: its number; None takes its name.
    """
    try:
        manifest = read_manifest(path)
    except DataError as error:
        return [f"{error}."]
    found = []
    if str(manifest.get("version")) != (path.name if version is None else str(version)):
        found.append(f"{MANIFEST_FILE} is of version {manifest.get('version')}.")
    if "saved_model.pb" not in manifest["sha256"]:
        found.append(f"{MANIFEST_FILE} lists no saved_model.pb.")
    for name, digest in manifest["sha256"].items():
        if not (path / name).is_file():
            found.append(f"{name} is missing.")
        elif sha256_of_file(path / name) != digest:
            found.append(f"{name} does not fit its sha256.")
    return found


def _status(version: int, champion: Champion | None) -> str:
    if champion is None:
        return "candidate"
    if version == champion.version:
        return "champion"
    if version == champion.canary:
        return "canary"
    if version == champion.previous:
        return "previous"
    return "earlier" if version in champion.earlier else "candidate"


def created_of(path: Path, manifest: Mapping[str, Any]) -> str:
    """When a version was made; by its manifest's file where that does not say."""
    if "created" in manifest:
        return str(manifest["created"])
    file = path / MANIFEST_FILE
    seconds = (file if file.exists() else path).stat().st_mtime
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def lineage_of_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Where a version comes from, of what its manifest says."""
    flat = {**manifest, **manifest.get("lineage", {})}
    return {key: flat[key] for key in _LINEAGE if key in flat}


def versions_of(folder: Path) -> list[Version]:
    """The versions below `exported_models/NAME`, newest first.

    Every file of every version is read, to compare it with the manifest.

    Raises:
        DataError: `champion.json` cannot be read.
    """
    champion, found = champion_of(folder), []
    for version in reversed(version_numbers(folder)):
        path = folder / str(version)
        faults = faults_of(path)
        try:
            manifest = read_manifest(path)
        except DataError:
            manifest = {}
        found.append(Version(
            version=version, path=path, faults=faults,
            status="broken" if faults else _status(version, champion),
            created=created_of(path, manifest), metrics=manifest.get("metrics", {}),
            lineage=lineage_of_manifest(manifest),
            bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        ))
    return found
