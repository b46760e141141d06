"""The alias in mlflow follows champion.json."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import logging

import pytest

from dualdnn.export.champion import champion_of
from dualdnn.tracking import MlflowRegistry, default_uri
from tests.tiny_versions import Store

# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One database for all tests: making one takes seconds. A model is known by its folder."""
    return tmp_path_factory.mktemp("with space") / "outputs"


@pytest.fixture
def store(tmp_path, database):
    store = Store(tmp_path)
    store.outputs = database
    store.registry = store.make_registry()
    store.add(1, 2, 3)
    return store


def of_store(store):
    """Alias and versions that are registered for this folder; the database has others."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(store.outputs))
    prefix = store.folder.as_uri()
    found = {str(one.version): int(one.tags["dualdnn.version"])
             for one in client.search_model_versions("name='feed'")
             if one.source.startswith(prefix)}
    alias = client.get_registered_model("feed").aliases.get("champion")
    return found.get(str(alias)), sorted(found.values())


def test_versions_are_registered_and_the_alias_follows(store):
    store.promote(2)
    assert of_store(store) == (2, [1, 2, 3])
    store.promote(3)
    assert of_store(store) == (3, [1, 2, 3])
    store.rollback()
    assert of_store(store) == (2, [1, 2, 3])
    store.add(4)
    store.prune(1)
    assert of_store(store) == (2, [2, 4])


def test_a_kill_before_the_alias_is_repaired_by_the_next_command(store):
    store.promote(1)
    registry, store.registry = store.registry, None
    store.promote(3)  # as far as a killed one comes
    assert of_store(store) == (1, [1, 2, 3])
    store.registry = registry
    assert store.repair().version == 3
    assert of_store(store) == (3, [1, 2, 3])


def test_a_broken_store_is_a_warning_and_mended_by_the_next_command(store, caplog):
    store.promote(1)
    (store.root / "file").write_text("no folder")
    uri = f"sqlite:///{store.root}/file/mlflow.db"
    registry, store.registry = store.registry, MlflowRegistry(uri=uri, outputs=store.root)
    with caplog.at_level(logging.WARNING, logger="dualdnn.tracking"):
        assert store.promote(3).version == 3
    assert store.served() == ([3], {"stable": 3})
    said = [record.getMessage() for record in caplog.records]
    assert said[-1].startswith(f"mlflow at {uri}: ")
    assert said[-1].endswith("The alias `champion` of feed was not brought to version 3; the next "
                             "command does it.")
    assert "\n" not in said[-1]
    store.registry = registry
    store.repair()
    assert of_store(store) == (3, [1, 2, 3])


def test_a_store_that_is_right_is_not_written(store):
    store.promote(2)
    database = store.outputs / "mlflow.db"
    before = database.read_bytes()
    store.repair()
    assert database.read_bytes() == before


def test_the_alias_of_a_champion_without_a_folder_goes(store):
    store.promote(2)
    (store.folder / "2").rename(store.root / "elsewhere")
    store.repair()
    assert of_store(store) == (None, [1, 3])
    assert champion_of(store.folder).version == 2


def test_versions_of_another_folder_stay(store, tmp_path):
    store.promote(1)
    other = Store(tmp_path / "other")
    other.outputs, other.registry = store.outputs, store.registry
    other.add(1, 2)
    other.promote(2)
    store.prune(1)
    assert of_store(other)[1] == [1, 2]
    assert of_store(store)[1] == [1, 3]
