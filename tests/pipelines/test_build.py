"""What a plan is built into."""

import pytest
from rich.console import Console

from benchmarks.quality.in_process import open_data
from pipelines.build import build_model, build_trainer
from pipelines.present import show_data


@pytest.mark.parametrize(("valid_days", "passes"), [(0, 0), (1, 3)])
def test_students_consolidate_where_a_validation_part_can_judge_it(tmp_path, capsys, valid_days,
                                                                   passes):
    plan, examples = open_data([
        "data=simulated_feed", "data.source.rows=1500", "data.source.days=5",
        "data.source.users=60", "data.source.new_items_a_day=3", "window=rolling",
        "window.days=4", f"window.valid_days={valid_days}", "training.epochs=3",
        f"paths.state={tmp_path}"])
    trainer = build_trainer(plan, build_model(plan, examples.schema, examples.row_map), examples,
                            tmp_path / "checkpoints")
    assert trainer.settings.consolidation_epochs == passes
    show_data(Console(width=200), plan, examples)
    assert ("students do not consolidate" in capsys.readouterr().out) == (passes == 0)
