"""`champion.json`: which version of a model is served, replaced by one rename."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dualdnn.errors import DataError
from dualdnn.export.models_config import models_config
from dualdnn.storage import atomic_file

CHAMPION_FILE, MODELS_CONFIG_FILE = "champion.json", "models.config"


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The served version of a model and how it came to be.

    Attributes:
        version: its number; the SavedModel is the folder of that name beside `champion.json`.
        previous: the champion to return to; None where there was none.
        earlier: champions before that one, newest first, as far as they are still there.
        since: UTC, as `2026-11-22T13:04:00Z`.
        action: `promote` or `rollback`.
        reason: why, in words.
        training_state: folder to warm-start from; None where the version has none.
        canary: a version that is served beside the champion, on trial.
    """

    version: int
    previous: int | None
    earlier: Sequence[int]
    since: str
    action: str
    reason: str
    training_state: str | None
    canary: int | None

    @property
    def trail(self) -> list[int]:
        """Earlier champions, the rollback target first."""
        return [*([] if self.previous is None else [self.previous]), *self.earlier]

    @property
    def in_use(self) -> list[int]:
        """What no retention takes away: the champion, what it returns to, what is on trial."""
        return [one for one in (self.version, self.previous, self.canary) if one is not None]


def utc_now() -> str:
    """Now, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def champion_of(folder: Path) -> Champion | None:
    """The champion of `exported_models/NAME`; None where no version was promoted yet.

    It takes no lock: a reader sees the champion from before or after a change, never neither.

    Raises:
        DataError: `champion.json` is not what this library writes.
    """
    path = folder / CHAMPION_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        champion = Champion(**values)
        if not isinstance(champion.version, int) or not all(
                isinstance(version, int) for version in champion.trail):
            raise TypeError("a version is not a number")
        return champion
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} must be as a promotion writes it, but cannot be read: {error}. Restore it, or "
            "delete it and promote a version again."
        ) from error


def derived_config(folder: Path, champion: Champion) -> str:
    """What `models.config` has to say."""
    return models_config(folder, champion=champion.version, canary=champion.canary)


def write_models_config(folder: Path, champion: Champion) -> None:
    """Bring `models.config` in line with the champion; nothing is written where it is already."""
    path, text = folder / MODELS_CONFIG_FILE, derived_config(folder, champion)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_champion(folder: Path, champion: Champion) -> None:
    """Replace `champion.json`, then `models.config`.

    All bytes of both are on the disk before the first is renamed, so that a full disk is found
    while the old champion still stands.

    Raises:
        DataError: the files cannot be written.
    """
    text = json.dumps(asdict(champion), indent=2) + "\n"
    try:
        with atomic_file(folder / MODELS_CONFIG_FILE) as config:
            _write_synced(config, derived_config(folder, champion))
            with atomic_file(folder / CHAMPION_FILE) as temporary:
                _write_synced(temporary, text)
    except OSError as error:
        standing = champion_of(folder)
        if standing == champion:
            state = (f"version {champion.version} is the champion already, and the next command "
                     f"writes {MODELS_CONFIG_FILE}")
        else:
            state = f"the champion is unchanged: {standing.version if standing else 'none'}"
        raise DataError(
            f"{folder / CHAMPION_FILE} could not be replaced: {error.strerror or error}; {state}. "
            "Make room, or mend the disk, and repeat the command."
        ) from error
