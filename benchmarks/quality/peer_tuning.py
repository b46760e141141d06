"""How every peer is tuned, alike, without test rows.

A coordinate search on the validation part with one seed finds the settings that come into question.
The best few of them are measured again on inner splits, as our defaults were: other rows stop the
training than those that are measured, and no single part decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dualdnn.data.window import Split

PEERS = ("DNN", "DCNv2", "FinalMLP", "xDeepFM")

# Where the search starts: the passes and batch size of conf/training, the MLP and CIN of
# conf/teacher, FuxiCTR's own three cross layers, and five passes without improvement before it
# stops: with the six evaluations of ours, some seeds stopped on a plateau of the first passes.
START: Mapping[str, Any] = {
    "learning_rate": 1e-3, "embedding_l2": 1e-3, "dropout": 0.0, "hidden_units": [256, 128],
    "cin_units": [64, 64], "cross_layers": 3, "batch_size": 512, "epochs": 30,
    "evaluations_per_epoch": 4, "patience": 20, "reduce_lr_on_plateau": False,
}
# One step after the other, each from the best so far. L2 first: it matters most.
STEPS: Sequence[Sequence[Mapping[str, Any]]] = (
    [{"embedding_l2": l2} for l2 in (1e-5, 1e-4, 3e-4, 3e-3, 1e-2, 3e-2, 1e-1)],
    [{"learning_rate": rate} for rate in (5e-4, 2e-3)],
    [{"dropout": rate} for rate in (0.2, 0.4)],
    [{"hidden_units": units} for units in ([128, 64], [400, 400, 400])],
    [{"embedding_l2": l2} for l2 in (2e-3, 5e-3, 2e-2)],
    # FuxiCTR's own stopping rule: once a pass, a tenth of the rate where it does not improve.
    # And ours.
    [{"evaluations_per_epoch": 1, "patience": 2, "reduce_lr_on_plateau": True}, {"patience": 6}],
)

# Of the settings of the search, the best by the validation part; and the inner splits they meet on.
FINALISTS, INNER_SPLITS = 5, 3
# Inner splits in time order end this share of the rows earlier, one after the other.
_EARLIER = 0.08

Settings = Mapping[str, Any]


def tuned(
    losses_of: Callable[[Sequence[Settings]], Sequence[float]], *,
    start: Settings = START, steps: Sequence[Sequence[Settings]] = STEPS,
) -> tuple[Settings, list[tuple[Settings, float]]]:
    """Coordinate search for the lowest loss.

    Args:
        losses_of: losses on the validation part of several settings.
        start: the first settings.
        steps: changes that are tried together, from the best settings before.

    Returns:
        the best settings, and all that were tried with their losses, in order.
    """
    best, tried = start, [(start, losses_of([start])[0])]
    for changes in steps:
        candidates = [{**best, **change} for change in changes]
        tried += zip(candidates, losses_of(candidates), strict=True)
        best = min(tried, key=lambda pair: pair[1])[0]
    return best, tried


def inner_split(split: Split, timestamps: np.ndarray | None, number: int) -> Split:
    """The rows of the train and validation parts, split anew; `test` is measured on.

    Args:
        split: of the run. Its test rows are in none of the parts.
        timestamps: (num_examples,) of all rows, where the parts follow time; None draws them.
        number: of the split, from 0.

    Returns:
        `valid` and `test` as long as the validation part of the run, the rest to train.
    """
    rows = np.sort(np.concatenate([split.train, split.valid]))
    if timestamps is None:
        rows = np.random.default_rng(number).permutation(rows)
    else:
        rows = rows[np.argsort(timestamps[rows], kind="stable")]
        rows = rows[:round(len(rows) * (1 - _EARLIER * number))]
    size = len(split.valid)
    train, valid, test = np.split(rows, [len(rows) - 2 * size, len(rows) - size])
    return Split(train=np.sort(train), valid=np.sort(valid), test=np.sort(test))


def finalists(tried: Sequence[tuple[Settings, float]], count: int = FINALISTS) -> list[Settings]:
    """The `count` settings with the lowest losses, each once."""
    found: list[Settings] = []
    for settings, _ in sorted(tried, key=lambda pair: pair[1]):
        if settings not in found:
            found.append(settings)
    return found[:count]
