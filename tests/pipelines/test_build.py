"""What a plan is built into."""

import pytest
from rich.console import Console

from benchmarks.quality.in_process import open_data
from pipelines.build import build_model, build_trainer
from pipelines.present import show_passes


@pytest.mark.parametrize("valid_days", [0, 1])
def test_a_training_that_nothing_can_end_sooner_takes_all_its_passes_and_says_so(tmp_path, capsys,
                                                                                 valid_days):
    plan, examples = open_data([
        "data=simulated_feed", "data.source.rows=1500", "data.source.days=5",
        "data.source.users=60", "data.source.new_items_a_day=3", "window=rolling",
        "window.days=4", f"window.valid_days={valid_days}", "teacher=plain", "controls=[]",
        "training.epochs=2", "training.consolidation_epochs=3", f"paths.state={tmp_path}"])
    trainer = build_trainer(plan, build_model(plan, examples.schema, examples.row_map), examples,
                            tmp_path / "checkpoints")
    show_passes(Console(width=200), plan.training, examples)
    said = "training.epochs=2 and training.consolidation_epochs=3 are taken in full"
    assert (said in capsys.readouterr().out) == (valid_days == 0)
    if not valid_days:
        trainer.run()
        assert {tower: one["best_step"] for tower, one in trainer.summary().items()} == {
            "teacher": 2 * trainer.steps_per_epoch, "light": 5 * trainer.steps_per_epoch}
