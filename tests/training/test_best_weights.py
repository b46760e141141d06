import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import json

import numpy as np
import pytest

from dualdnn.distillation.objective import Objective
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.best_weights import BestWeights, load_best_weights
from tests.tiny_run import EVERYTHING, build_model, open_tiny, weights_of


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    examples = open_tiny(tmp_path_factory.mktemp("feed"))
    # Twelve dense variables and more: their order must not become that of their names as text.
    return build_model(examples, [EVERYTHING, Objective()], alone=True)


def change(model):
    for tower in model.towers:
        embeddings = model.embeddings_of(tower)
        for variable in [*model.network_variables(tower),
                         *(v for one in embeddings for v in one.trained_variables())]:
            variable.assign_add(variable * 0.1 + 1)


def assert_loads(best, model, tower, expected):
    best.load_into(model, tower)
    for value, wanted in zip(weights_of(model, tower), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.fixture(scope="module")
def kept(model):
    """Towers kept at different steps, and what they were then."""
    best, expected = BestWeights(), {}
    for step, towers in ((1, [TEACHER, "s0", "s1", "alone"]), (2, [TEACHER, "s0"]), (3, ["s0"])):
        for tower in towers:
            best.keep(model, tower, step)
            expected[tower] = weights_of(model, tower)
        change(model)
    return best, expected


def test_each_tower_comes_back_with_the_table_of_its_own_step(model, kept):
    best, expected = kept
    for tower, weights in expected.items():
        assert_loads(best, model, tower, weights)


def test_an_embedding_with_nothing_that_learns_is_kept_too(kept, tmp_path):
    best, _ = kept
    whole = BestWeights(dense=best.dense, table_steps={
        **best.table_steps, "s1": {**best.table_steps["s1"], "frozen": 1}},
        tables={**best.tables, ("frozen", 1): []})
    whole.save(tmp_path / "best")
    assert load_best_weights(tmp_path / "best", ["s1"]).tables["frozen", 1] == []


def test_a_snapshot_is_a_copy_and_one_that_nobody_needs_is_dropped(model, kept):
    best, expected = kept
    change(model)
    assert_loads(best, model, "s1", expected["s1"])
    assert set(best.tables) == {("shared", 1), ("shared", 2), ("shared", 3), ("alone", 1)}


def test_towers_of_one_step_share_one_copy_of_the_table(model):
    best = BestWeights()
    for tower in (TEACHER, "s0", "s1"):
        best.keep(model, tower, 5)
    assert set(best.tables) == {("shared", 5)}


def test_saved_and_loaded_bit_identically(model, kept, tmp_path):
    best, expected = kept
    best.save(tmp_path / "model")
    loaded = load_best_weights(tmp_path / "model", [*expected])
    change(model)
    for tower, weights in expected.items():
        assert_loads(loaded, model, tower, weights)
    assert loaded.table_steps == best.table_steps


def test_saving_again_replaces_what_was_there(model, kept, tmp_path):
    best, expected = kept
    first = BestWeights()
    first.keep(model, "s1", 1)
    first.save(tmp_path / "model")
    best.save(tmp_path / "model")
    assert_loads(load_best_weights(tmp_path / "model", [TEACHER]), model, "alone",
                 expected["alone"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_tower_that_is_not_there_is_named(kept, tmp_path):
    kept[0].save(tmp_path / "model")
    with pytest.raises(DataError, match="model holds no weights of s7; it has teacher, s0, s1"):
        load_best_weights(tmp_path / "model", ["s0", "s7"])
    with pytest.raises(DataError, match="nothing is not a readable checkpoint"):
        load_best_weights(tmp_path / "nothing", ["s0"])


def test_a_folder_from_before_towers_could_read_several_embeddings_is_read(model, kept, tmp_path):
    best, expected = kept
    best.save(tmp_path / "model")
    state = tmp_path / "model" / "state.json"
    steps = json.loads(state.read_text())["table_steps"]
    state.write_text(json.dumps({"table_steps": {
        tower: next(iter(of_tower.values())) for tower, of_tower in steps.items()}}))
    loaded = load_best_weights(tmp_path / "model", [*expected])
    assert loaded.table_steps == best.table_steps
    for tower, weights in expected.items():
        assert_loads(loaded, model, tower, weights)
