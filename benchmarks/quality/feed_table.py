"""The defaults of conf/ on the simulated feed: how much of what can be learned the towers learn.

python -m benchmarks.quality.feed_table [--rows 2000000] [--regime third_order ...] [--seeds 1]
    [--picture FILE.svg]

window=rolling, 28 days train, 2 validate, 1 tests. `closed` is the share of the distance in AUC
from the best linear model to the fitted true form; `efficiency` is (student - alone) / (teacher -
alone), shown where the teacher is ahead of alone by more than 10 standard errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.quality.in_process import best_logits, feed_overrides, open_data, train
from dualdnn.data.simulator.formula import REGIMES
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.evaluation.feed_references import feed_references
from dualdnn.evaluation.metrics import auc, log_loss
from dualdnn.evaluation.significance import auc_difference

_LEAST_HEADROOM = 10.0
_MARKS = {"truth": ("|", "black"), "true_form": ("D", "black"), "best_linear": ("o", "0.6"),
          "teacher": ("^", "tab:blue"), "light": ("v", "tab:orange"), "light.alone": ("x", "0.4")}


def draw(measured: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """AUC of references and towers, one line a regime."""
    matplotlib.rcParams["svg.hashsalt"] = "feed_table"
    figure = Figure(figsize=(8, 0.6 * len(measured) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(measured) - 1, -1, -1)
    for place, scores in zip(places, measured.values(), strict=True):
        axes.plot([scores["best_linear"], scores["true_form"]], [place, place], color="0.85",
                  linewidth=8, solid_capstyle="butt", zorder=0)
    for name, (marker, colour) in _MARKS.items():
        axes.scatter([scores[name] for scores in measured.values()], list(places), marker=marker,
                     color=colour, s=70, label=name)
    axes.set_yticks(list(places), list(measured))
    axes.set_ylim(-0.6, len(measured) - 0.4)
    axes.set_xlabel("AUC on the test day")
    figure.legend(loc="outside upper center", ncols=len(_MARKS), frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def show(regime: str, rows: int, seed: int, state: str) -> dict[str, float]:
    """Train on one regime and print a table; AUC by reference and tower."""
    overrides = [*feed_overrides(regime, rows), "window=rolling", "window.valid_days=2",
                 f"paths.state={state}", "controls=[alone]", f"seed={seed}"]
    plan, examples = open_data(overrides)
    if not isinstance(plan.source, FeedSettings):
        raise TypeError("data=simulated_feed must name a simulated feed as its source")
    found = feed_references(plan.source, plan.lake, examples, Path(state) / "references")
    trainer, examples = train(overrides)
    index = examples.split.test
    labels, towers = examples.labels[index], best_logits(trainer, examples, index)
    parts = {"": np.ones(len(labels), bool), ", frequent": found.frequent}
    heads = [f"{head}{part}" for part in parts for head in ("AUC", "log loss", "closed")]
    scores = {name: auc(labels, logits) for name, logits in {**found.logits, **towers}.items()}
    print(f"\n### {regime}, {rows} rows, seed {seed}: {len(labels)} test rows, "
          f"{found.frequent.mean():.1%} frequent\n\n| | {' | '.join(heads)} |\n"
          f"|---|{'---|' * len(heads)}")
    for name, logits in {**found.logits, **towers}.items():
        cells = []
        for kept in parts.values():
            linear, form = (auc(labels[kept], found.logits[of][kept])
                            for of in ("best_linear", "true_form"))
            measured = auc(labels[kept], logits[kept])
            share = (measured - linear) / (form - linear)
            cells += [f"{measured:.4f}", f"{log_loss(labels[kept], logits[kept]):.4f}",
                      "" if regime == "additive" else f"{share:.0%}"]
        print(f"| {name} | {' | '.join(cells)} |")
    gain = auc_difference(labels, towers["teacher"], found.logits["best_linear"])
    print(f"\nteacher − best_linear: AUC {gain[0]:+.4f} ± {gain[1]:.4f}")
    headroom = auc_difference(labels, towers["teacher"], towers["light.alone"])
    student = auc_difference(labels, towers["light"], towers["light.alone"])
    print(f"\nteacher − alone: AUC {headroom[0]:+.4f} ± {headroom[1]:.4f}; light − alone "
          f"{student[0]:+.4f} ± {student[1]:.4f}" + (
              f"; efficiency {student[0] / headroom[0]:.2f}"
              if headroom[0] > _LEAST_HEADROOM * headroom[1] else "; too little headroom"),
          flush=True)
    return scores


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="draw the mean over the seeds here")
    parser.add_argument("--state", default="state", help="where lakes and encoded days are kept")
    given = parser.parse_args()
    measured = {}
    for regime in given.regime:
        runs = [show(regime, given.rows, seed, given.state) for seed in range(1, given.seeds + 1)]
        measured[regime] = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    if given.picture:
        draw(measured, given.picture)


if __name__ == "__main__":
    main()
