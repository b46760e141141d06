"""Train the dual DNN, evaluate it, export the student."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from pipelines.compose import given_overrides, resolved
from pipelines.entry import start
from pipelines.load import SCORES_FILE
from pipelines.plan import plan_from
from pipelines.present import make_console, show_finished, show_result
from pipelines.runs import choose_run, new_run, read_report
from pipelines.scheme_comparison import compare_schemes
from pipelines.scheme_runs import scheme_comparison_from
from pipelines.teachers import absent_members
from pipelines.train_run import train_in


def main(config: DictConfig) -> None:
    """Check the configuration, choose the run folder, then train in it."""
    mistakes: list[str] = []
    settings = resolved(config, mistakes)
    settings, run = choose_run("train", settings, given_overrides(), mistakes)
    done = run is not None and read_report(run).get("status") == "done"
    compares = settings.get("scheme_comparison") is not None
    if compares:
        asked, runs, plan = scheme_comparison_from(settings, mistakes, trains=not done)
    else:
        if not (run and (run / SCORES_FILE).exists()):
            mistakes.extend(absent_members(settings["teacher"]))
        plan = plan_from(settings, mistakes, begins=run is None)
    console = make_console()
    if run and done:
        show_finished(console, run)
        return
    run = run or new_run(Path(settings["paths"]["outputs"]), "train", settings)
    if compares:
        compare_schemes(run, settings, asked, runs, plan, console)
    else:
        train_in(run, settings, plan, console)
    show_result(console, run, read_report(run))


if __name__ == "__main__":
    start("train", main)
