"""Choose which version of a model is served."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dualdnn.errors import DataError, LockError
from dualdnn.export.champion import champion_of
from dualdnn.export.models_config import CANARY
from dualdnn.export.promotion import promote, repair, rollback, set_canary
from dualdnn.export.retention import daily_turn, prune
from dualdnn.export.versions import versions_of
from dualdnn.tracking import MlflowRegistry, default_uri
from pipelines.entry import start
from pipelines.present import make_console
from pipelines.present_versions import changed, pruned, show_versions
from pipelines.publish_settings import PublishSettings, checked


def _act(asked: PublishSettings, folder: Path, state: Path, registry: MlflowRegistry) -> str:
    """Do what was asked; what it did, in a sentence."""
    if asked.action == "list":
        try:
            repair(folder, state=state, registry=registry)
        except LockError as error:  # whoever holds it has repaired
            return f"read only: {error}"
        return ""
    if asked.action == "prune":
        with daily_turn(state, wait=False):
            return pruned(prune(folder, state, keep=asked.keep, keep_days=asked.keep_days,
                                registry=registry))
    before = champion_of(folder)
    if asked.label == CANARY:
        after = set_canary(folder, asked.version, state=state, registry=registry)
    elif asked.action == "rollback":
        after = rollback(folder, asked.version, asked.reason, state=state, registry=registry)
    else:
        assert asked.version is not None
        after = promote(folder, asked.version, asked.reason or "promoted by hand", state=state,
                        registry=registry)
    return changed(folder.name, before, after)


def main(config: DictConfig) -> None:
    """Repair what follows from champion.json, do what was asked, show the versions."""
    asked, name, where = checked(config)
    exported, outputs = Path(where["paths"]["exported_models"]), Path(where["paths"]["outputs"])
    folder = exported / name
    if not folder.is_dir():
        names = sorted(path.name for path in exported.glob("*") if path.is_dir())
        raise DataError(f"{folder} is not there: expected the versions of a model, named by "
                        f"data or export.name; there are {', '.join(names) or 'none'}.")
    registry = MlflowRegistry(uri=where["tracking"]["uri"] or default_uri(outputs),
                              outputs=outputs)
    console = make_console()
    said = _act(asked, folder, Path(where["paths"]["state"]) / name, registry)
    if said:
        console.print(said, highlight=False, markup=False)
    show_versions(console, folder, versions_of(folder))


if __name__ == "__main__":
    start("publish", main)
