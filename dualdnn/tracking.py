"""Experiment tracking in mlflow and TensorBoard. A tracking failure never loses a run."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from dualdnn.storage import atomic_file, lock, remove_leftovers

_log = logging.getLogger(__name__)
# mlflow refuses longer parameter values and tags.
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 5000
CHAMPION_ALIAS = "champion"
_DATABASE = "mlflow.db"


def default_uri(outputs: Path) -> str:
    """An sqlite database in the outputs folder; mlflow's plain file store is gone since 3.13."""
    return f"sqlite:///{outputs.resolve()}/{_DATABASE}"


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b.c` to text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{name}."))
        else:
            flat[name] = str(value)
    return flat


@contextlib.contextmanager
def _opened(uri: str, outputs: Path) -> Iterator[Any]:
    """An mlflow client, and as long as the block lasts no other process opens the store."""
    # mlflow reports usage to its makers unless told otherwise; whoever wants that, says so.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):  # after the import, which sets its own levels
        logging.getLogger(noisy).setLevel(logging.ERROR)
    outputs.mkdir(parents=True, exist_ok=True)
    # The first use migrates the database; two processes at once would break it.
    with lock(outputs.resolve() / ".mlflow.lock", wait=True):
        database = outputs.resolve() / _DATABASE
        if uri == default_uri(outputs) and not database.exists():
            _make_database(database)
        yield MlflowClient(tracking_uri=uri)


def _make_database(database: Path) -> None:
    """Migrate a new database under a temporary name; the caller holds the lock.

    Migrations are many commits, and of one that was killed between two mlflow says for ever that
    its tables exist already.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    remove_leftovers(database.parent)
    with atomic_file(database) as temporary:
        made: Callable[..., Any] = SqlAlchemyStore  # mlflow has no types here
        store = made(f"sqlite:///{temporary}", "mlruns")
        store.engine.dispose()  # no connection stays open to a file of another name


class MlflowRun:
    """One run in mlflow. Whatever goes wrong is logged as a warning, once, and then let be."""

    def __init__(self, *, uri: str, outputs: Path, experiment: str, name: str,
                 run_id: str | None = None) -> None:
        """Open a run, or the run `run_id` of a job that is resumed.

        Args:
            uri: of the tracking store.
            outputs: folder for the artifacts and the lock that guards the first migration.
            experiment: name; made if missing, with its artifacts below `outputs`.
            name: of the run.
            run_id: of an earlier try of the same run.
        """
        self.uri = uri
        self.run_id: str | None = None
        self._client: Any = None
        self._pending: list[Any] = []
        self._attempt(lambda: self._open(outputs, experiment, name, run_id))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # tracking must never end a run
            _log.warning("mlflow at %s: %s. The run goes on without it.", self.uri, error)
            self._client = None

    def _open(self, outputs: Path, experiment: str, name: str, run_id: str | None) -> None:
        with _opened(self.uri, outputs) as client:
            found = client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else client.create_experiment(
                # Else artifacts land in the folder that the command was started in.
                experiment,
                artifact_location=(outputs.resolve() / "mlartifacts" / experiment).as_uri(),
            )
        if run_id:
            client.update_run(run_id, status="RUNNING")
            self.run_id = run_id
        else:
            self.run_id = client.create_run(experiment_id, run_name=name).info.run_id
        self._client = client

    def log_settings(self, settings: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Parameters, flattened, and tags, both cut to what mlflow takes.

        Of a resumed run, parameters keep their first value.
        """
        if self._client is None:
            return
        from mlflow.entities import Param, RunTag

        params = [Param(key, value[:_LONGEST_PARAMETER])
                  for key, value in flattened(settings).items()]
        of_run = [RunTag(key, value[:_LONGEST_TAG]) for key, value in tags.items()]

        def log() -> None:
            self._client.log_batch(self.run_id, tags=of_run)
            # A resumed run has its parameters, and mlflow refuses another value (of `resume`).
            known = self._client.get_run(self.run_id).data.params
            new = [param for param in params if param.key not in known]
            for start in range(0, len(new), 100):
                self._client.log_batch(self.run_id, params=new[start : start + 100])

        self._attempt(log)

    def add(self, name: str, value: float, step: int) -> None:
        """Queue one metric."""
        if self._client is not None:
            from mlflow.entities import Metric

            self._pending.append(Metric(name, value, int(time.time() * 1000), step))

    def flush(self) -> None:
        """Send the queued metrics."""
        pending, self._pending = self._pending, []
        for start in range(0, len(pending), 1000):
            if self._client is not None:
                block = pending[start : start + 1000]
                self._attempt(lambda block=block: self._client.log_batch(  # type: ignore[misc]
                    self.run_id, metrics=block))

    def add_artifacts(self, files: list[Path]) -> None:
        """Copy files into the run's artifacts."""
        for file in files:
            if self._client is not None and file.exists():
                self._attempt(
                    lambda file=file: self._client.log_artifact(  # type: ignore[misc]
                        self.run_id, str(file)))

    def end(self, *, succeeded: bool) -> None:
        """Close the run as finished or failed."""
        self.flush()
        if self._client is not None:
            status = "FINISHED" if succeeded else "FAILED"
            self._attempt(lambda: self._client.set_terminated(self.run_id, status=status))


class MlflowRegistry:
    """Published versions as a registered model; its alias `champion` follows `champion.json`.

    mlflow numbers versions by itself: one of ours is known there by its folder, and has its
    number as the tag `dualdnn.version`.
    """

    def __init__(self, *, uri: str, outputs: Path) -> None:
        """Use a store.

        Args:
            uri: of the tracking store, which is the registry as well.
            outputs: folder of the lock that guards the first migration.
        """
        self.uri = uri
        self.outputs = outputs

    def follow(self, *, name: str, versions: Mapping[int, Path], champion: int) -> None:
        """Know exactly `versions` of the model `name`, and point its alias at the champion.

        What is right already is not written. Whatever goes wrong is a warning: the next command
        of the model does it again.

        Args:
            name: of the registered model.
            versions: folders by number; others of the same parent folder are forgotten.
            champion: the number that the alias points at; removed where it has no folder.
        """
        try:
            with _opened(self.uri, self.outputs) as client:
                self._follow(client, name, versions, champion)
        except Exception as error:  # tracking must never end a publish
            _log.warning("mlflow at %s: %s. The alias `champion` of %s was not brought to version "
                         "%d; the next command does it.", self.uri, " ".join(str(error).split()),
                         name, champion)

    def _follow(self, client: Any, name: str, versions: Mapping[int, Path], champion: int) -> None:
        wanted = {path.absolute().as_uri(): number for number, path in versions.items()}
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        known = {found.source: found.version
                 for found in client.search_model_versions(f"name='{name}'", max_results=10_000)}
        for source in wanted.keys() - known.keys():
            known[source] = client.create_model_version(
                name, source, tags={"dualdnn.version": str(wanted[source])}).version
        target = {number: known[source] for source, number in wanted.items()}.get(champion)
        alias = client.get_registered_model(name).aliases.get(CHAMPION_ALIAS)
        if target is None and alias is not None:
            client.delete_registered_model_alias(name, CHAMPION_ALIAS)
        elif target is not None and str(alias) != str(target):
            client.set_registered_model_alias(name, CHAMPION_ALIAS, str(target))
        # Last: an alias goes with its version, and the old champion may be among them.
        parents = {source.rpartition("/")[0] for source in wanted}
        for source in known.keys() - wanted.keys():
            if source.rpartition("/")[0] in parents:
                client.delete_model_version(name, str(known[source]))


class TensorBoardWriter:
    """Events by tower, so that TensorBoard draws teacher and students in one chart."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`, one sub-folder a tower."""
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def add(self, tower: str, name: str, value: float, step: int) -> None:
        """Write one scalar."""
        if tower not in self._writers:
            self._writers[tower] = tf.summary.create_file_writer(str(self.folder / tower))
        with self._writers[tower].as_default(step):
            tf.summary.scalar(name, value)

    def flush(self) -> None:
        """Make what was written visible."""
        for writer in self._writers.values():
            writer.flush()
