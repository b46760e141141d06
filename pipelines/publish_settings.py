"""What `publish` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from dualdnn.config import parse
from dualdnn.errors import ConfigError
from dualdnn.export.models_config import CANARY, STABLE
from dualdnn.export.retention import policy_mistakes
from pipelines.compose import plain_values
from pipelines.settings import ExportSettings, PathSettings, TrackingSettings

_ACTIONS = ("list", "promote", "rollback", "prune")


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """What to do with which version."""

    action: str
    version: int | None
    reason: str | None
    label: str
    keep: int | None
    keep_days: float | None
    debug: bool

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = []
        if self.action not in _ACTIONS:
            found.append(f"action must be one of {', '.join(_ACTIONS)}, got {self.action!r}.")
        if self.label not in (STABLE, CANARY):
            found.append(f"label must be {STABLE} or {CANARY}, got {self.label!r}.")
        if self.action == "promote" and self.version is None:
            found.append("action=promote needs version=N; action=list shows the versions.")
        if self.action in ("list", "prune"):
            found.extend(f"action={self.action} takes no {key}; remove it."
                         for key in ("version", "reason") if getattr(self, key) is not None)
        if self.label == CANARY and self.action in ("list", "prune"):
            found.append(f"action={self.action} takes no label; remove it.")
        if self.label == CANARY and self.reason is not None:
            found.append("label=canary keeps no reason; remove it.")
        if self.label == CANARY and self.action == "rollback" and self.version is not None:
            found.append("action=rollback label=canary ends the trial and takes no version.")
        if self.version is not None and self.version < 1:
            found.append(f"version must be >= 1, got {self.version}.")
        return found + (policy_mistakes(self.keep, self.keep_days)
                        if self.action == "prune" else [])


def checked(config: DictConfig) -> tuple[PublishSettings, str, dict[str, Any]]:
    """What to do, with the model of which name, and the sections `paths` and `tracking`.

    Raises:
        ConfigError: with every mistake at once.
    """
    mistakes: list[str] = []
    config, name = config.copy(), OmegaConf.select(config, "data.name")
    with open_dict(config):
        del config["data"]  # no row of it is read: it may lack a folder
    settings = plain_values(config, mistakes)
    where = {key: settings.pop(key) for key in ("paths", "tracking", "export")}
    asked = parse(PublishSettings, settings, "publish", mistakes)
    export = parse(ExportSettings, {"name": where["export"]["name"] or name, "student": None},
                   "export", mistakes)
    mistakes = [mistake.removeprefix("publish.") for mistake in mistakes]
    mistakes += [*(asked.mistakes() if asked else []),
                 *(export.mistakes((), None) if export else [])]
    parse(PathSettings, where["paths"], "paths", mistakes)
    parse(TrackingSettings, where["tracking"], "tracking", mistakes)
    if mistakes or asked is None or export is None or export.name is None:
        raise ConfigError(mistakes or "no model is named. Use data=NAME or export.name=NAME.")
    return asked, export.name, where
