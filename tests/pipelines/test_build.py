"""What a plan is built into."""

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from benchmarks.quality.in_process import open_data
from dualdnn.training.scoring import Scorer
from pipelines.build import build_model, build_trainer
from pipelines.present import show_passes

FEED = ["data=simulated_feed", "data.source.rows=1500", "data.source.days=5",
        "data.source.users=60", "data.source.new_items_a_day=3", "window=rolling",
        "window.days=4", "controls=[]"]


def built(tmp_path, *overrides):
    plan, examples = open_data([*FEED, *overrides, f"paths.state={tmp_path}"])
    return build_model(plan, examples.schema, examples.row_map), examples


def test_every_option_of_a_pool_and_of_a_student_reaches_its_network(tmp_path):
    model, examples = built(
        tmp_path, "teacher=pool", "+teacher.weights={xdeepfm: 3, dcn_v2: 1, deepfm: 0}",
        "teacher.hint_from=dcn_v2", "teacher.towers.dcn_v2.hidden_units=[24,12]",
        "teacher.towers.xdeepfm.hidden_units=[20,10]", "teacher.towers.xdeepfm.activation=elu",
        "teacher.towers.xdeepfm.dropout=0.25", "teacher.towers.dcn_v2.linear=false",
        "student.activation=tanh", "student.dropout=0.5", "embedding.initial_stddev=0.3")
    members = Scorer(model).members(examples.rows, examples.dense)
    assert {name: set(shares) for name, (_, shares) in members.items()} == {
        "xdeepfm": {0.75}, "dcn_v2": {0.25}, "deepfm": {0.0}}
    logits = Scorer(model)(examples.rows, ["teacher"], examples.dense)["teacher"]
    np.testing.assert_allclose(
        logits, 0.75 * members["xdeepfm"][0] + 0.25 * members["dcn_v2"][0], atol=1e-6)
    # Hints of the named tower: its last layer is what the student's projection must reach.
    assert model.students["light"].projections[0].dense.units == 12
    assert model.teacher.mlp is model.teacher.towers["dcn_v2"].network.mlp
    first_order = model.embedding.trained_tables[0].linear
    before = {name: one for name, (one, _) in members.items()}
    first_order.assign_add(tf.ones_like(first_order))
    moved = {name: np.abs(one - before[name]).max() > 0.5 for name, (one, _) in
             Scorer(model).members(examples.rows, examples.dense).items()}
    assert moved == {"xdeepfm": True, "dcn_v2": False, "deepfm": True}
    networks = {name: tower.network for name, tower in model.teacher.towers.items()}
    assert [networks["xdeepfm"].mlp.dropout, networks["deepfm"].mlp.dropout,
            model.students["light"].network.mlp.dropout] == [0.25, 0.0, 0.5]
    assert [network.mlp.dense[0].activation.__name__ for network in
            (networks["xdeepfm"], networks["deepfm"], model.students["light"].network)] == [
        "elu", "relu", "tanh"]
    table = model.embedding.trained_tables[0].vectors.numpy()
    assert np.std(table[table != 0]) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("valid_days", [0, 1])
def test_a_training_that_nothing_can_end_sooner_takes_all_its_passes_and_says_so(tmp_path, capsys,
                                                                                 valid_days,
                                                                                 monkeypatch):
    # It cannot be switched off again: other tests may have switched it on.
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(1))
    plan, examples = open_data([
        *FEED, f"window.valid_days={valid_days}", "teacher=plain", "training.epochs=2",
        *(["training.deterministic=false"] if valid_days else []),
        "training.consolidation_epochs=3", f"paths.state={tmp_path}"])
    trainer = build_trainer(plan, build_model(plan, examples.schema, examples.row_map), examples,
                            tmp_path / "checkpoints")
    assert asked == ([] if valid_days else [1])
    show_passes(Console(width=200), plan.training, examples)
    said = "training.epochs=2 and training.consolidation_epochs=3 are taken in full"
    assert (said in capsys.readouterr().out) == (valid_days == 0)
    if not valid_days:
        trainer.run()
        assert {tower: one["best_step"] for tower, one in trainer.summary().items()} == {
            "teacher": 2 * trainer.steps_per_epoch, "light": 5 * trainer.steps_per_epoch}
