"""How good a model of the simulated feed can be: the truth, the true form, the best linear model.

python -m benchmarks.quality.simulated_references [--rows 2000000] [--regime pairwise ...]

On the test day of window=rolling (28 days train, 2 validate, 1 tests): the true probabilities;
the simulator's own formula fitted to the training rows; an L2 logistic regression on the very rows
that the towers read. The strength of both fits is tuned on the validation days.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.quality.in_process import open_data
from dualdnn.data.simulator.formula import REGIMES
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.evaluation.feed_references import FREQUENT, YOUNG_DAYS, feed_references
from dualdnn.evaluation.significance import auc_difference


def show(regime: str, rows: int, state: str) -> None:
    """Print the references of one regime."""
    plan, examples = open_data([
        "data=simulated_feed", f"data.source.regime={regime}", f"data.source.rows={rows}",
        "window=rolling", "window.valid_days=2", f"paths.state={state}",
    ])
    if not isinstance(plan.source, FeedSettings):
        raise TypeError("data=simulated_feed must name a simulated feed as its source")
    found = feed_references(plan.source, plan.lake, examples, Path(state) / "references")
    labels = examples.labels[examples.split.test]
    print(f"\n### {regime}, {rows} rows\n\n{len(labels)} test rows, {found.young.mean():.1%} of "
          f"items younger than {YOUNG_DAYS} days, {found.frequent.mean():.1%} with user and item "
          f">= {FREQUENT} times in training; click rate {labels.mean():.3f}\n\n"
          "| | AUC | log loss | AUC, frequent | log loss, frequent |\n|---|---|---|---|---|")
    for name, numbers in found.section(examples).items():
        print(f"| {name} | {numbers['auc']:.4f} | {numbers['log_loss']:.4f} | "
              f"{numbers['frequent_auc']:.4f} | {numbers['frequent_log_loss']:.4f} |")
    for name in ("truth", "true_form"):
        difference = auc_difference(labels, found.logits[name], found.logits["best_linear"])
        if difference:
            print(f"\n{name} − best_linear: AUC {difference[0]:+.4f} ± {difference[1]:.4f}", end="")
    print(flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--state", default="state", help="where lakes and encoded days are kept")
    given = parser.parse_args()
    for regime in given.regime:
        show(regime, given.rows, given.state)


if __name__ == "__main__":
    main()
