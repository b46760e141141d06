"""A user's own feed: a lake and a config folder outside of the repository."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.export.latency import measure_here
from pipelines import challenge, reporting
from tests.forked_jobs import ForkedJobs
from tests.mlflow_store import put_store
from tests.tiny_run import SCHEMA, write_lake

DATA = {
    "name": "my_feed", "lake": "feed", "label": "click", "timestamp": "ts", "group": "user",
    "fields": [
        {"name": "user", "kind": "id", "side": "user"},
        {"name": "item", "kind": "id", "side": "item", "min_count": 2},
        {"name": "tags", "kind": "ids", "side": "item", "max_length": 3},
        {"name": "age", "kind": "number", "side": "user", "buckets": 4},
    ],
}
TEACHER = {
    "linear": True, "hidden_units": [8, 4], "activation": "relu", "dropout": 0.1,
    "interactions": {"cin": {
        "_target_": "dualdnn.layers.cin.CompressedInteractionNetwork", "layer_sizes": [4, 4],
    }},
}
# By its defaults list it takes from a file of the repository what it does not say.
STUDENT = {"defaults": ["tiny"], "hidden_units": [6]}


def make_feed(folder: Path, *, store: bool = True) -> SimpleNamespace:
    """A start folder with `feed/` (the lake) and `conf/`; `given` trains a tiny pair on it.

    With `store` there is an mlflow database; without, jobs make one.
    """
    assert DATA["fields"] == [
        {key: field[key] for key in given}
        for field, given in zip(SCHEMA.to_dict()["fields"], DATA["fields"], strict=True)
    ]
    write_lake(folder / "feed")
    if store:
        put_store(folder / "outputs")
    for place, values in (("data/my_feed", DATA), ("teacher/small", TEACHER),
                          ("student/mini", STUDENT)):
        path = folder / "conf" / f"{place}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    given = ["data=my_feed", "teacher=small", "student=mini", "embedding.dim=4",
             "training.epochs=2", "training.consolidation_epochs=1", "training.batch_size=64",
             "training.evaluations_per_epoch=2", "training.patience=99",
             "distillation=soft_labels_and_hints"]
    return SimpleNamespace(folder=folder, given=["--config-dir", "conf", *given], overrides=given)


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    return make_feed(tmp_path_factory.mktemp("feed"))


@pytest.fixture(scope="session")
def forks():
    """Jobs without the seconds that a start of Python takes."""
    with ForkedJobs() as forks:
        yield forks


@pytest.fixture
def timed_here(monkeypatch):
    """Jobs of this process time towers in it: importing TensorFlow anew takes longer than a job."""
    for module in (challenge, reporting):
        monkeypatch.setattr(module, "measure_latency", measure_here)
