"""The defaults of conf/ on the real logs: every tower beside a logistic regression, 5 seeds.

python -m benchmarks.quality.core_table [--tweetings FOLDER] [--seeds 5]

Settings were chosen on validation parts and earlier time splits, but these test parts were read
for six states of the settings on the way, so they are not untouched. Under
window=random_fraction the split follows the seed too (window.seed defaults to seed).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.in_process import best_logits, checked_plan, open_data, train
from benchmarks.quality.logistic_regression import tuned_logits
from dualdnn.errors import ConfigError
from dualdnn.evaluation.metrics import auc, log_loss

Scores = dict[str, list[tuple[float, float]]]


def measured(overrides: Sequence[str], seeds: int) -> Scores:
    """AUC and log loss on the test part by tower, one pair a seed."""
    scores: Scores = {}
    regression = None
    for seed in range(1, seeds + 1):
        trainer, examples = train([*overrides, f"seed={seed}"])
        index = examples.split.test
        labels = examples.labels[index]
        logits = best_logits(trainer, examples, index)
        # The regression depends on the split alone.
        if regression is None or "window=random_fraction" in overrides:
            _, of_seed = open_data([*overrides, f"seed={seed}"])
            regression, _ = tuned_logits(of_seed, index)
        for tower, values in {**logits, "logistic_regression": regression}.items():
            scores.setdefault(tower, []).append((auc(labels, values), log_loss(labels, values)))
    return scores


def show(name: str, scores: Scores) -> None:
    """A markdown table: mean and standard deviation over the seeds."""
    print(f"\n### {name}\n\n| tower | AUC | log loss |\n|---|---|---|")
    for tower, pairs in scores.items():
        mean, spread = np.mean(pairs, axis=0), np.std(pairs, axis=0, ddof=1)
        print(f"| {tower} | {mean[0]:.4f} ± {spread[0]:.4f} | {mean[1]:.4f} ± {spread[1]:.4f} |")
    student = next(tower for tower in scores if tower not in ("teacher", "logistic_regression"))
    for first, second in ((student, f"{student}.alone"), ("teacher", "logistic_regression"),
                          (student, "logistic_regression")):
        paired = np.array(scores[first]) - np.array(scores[second])
        mean, spread = paired.mean(axis=0), paired.std(axis=0, ddof=1)
        print(f"\n{first} − {second}, paired: AUC {mean[0]:+.4f} ± {spread[0]:.4f}, "
              f"log loss {mean[1]:+.4f} ± {spread[1]:.4f}", end="")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tweetings", help="raw MovieTweetings, needed until its lake is built")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    show("MovieLens-100K, random_fraction", measured(["window=random_fraction"], given.seeds))
    show("MovieLens-100K, time_fraction", measured(["window=time_fraction"], given.seeds))
    raw = [f"data.raw={given.tweetings}"] if given.tweetings else []
    try:
        checked_plan(["data=movietweetings", *raw])
    except ConfigError as error:
        print(f"\nMovieTweetings left out: {error}")
    else:
        show("MovieTweetings, time_fraction",
             measured(["data=movietweetings", *raw], given.seeds))


if __name__ == "__main__":
    main()
