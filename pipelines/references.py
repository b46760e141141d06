"""Beside the towers: what can be known about a feed whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.evaluation.feed_references import feed_references
from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.significance import auc_difference
from pipelines.plan import Plan

# A share of a distance shorter than this many standard errors means nothing.
_LEAST_DISTANCE = 3.0


def reference_section(plan: Plan, examples: Examples, logits: Mapping[str, np.ndarray],
                      state: Path) -> dict[str, Any]:
    """The sections `references` and `closed` of the report; empty where no truth is known.

    `references` holds the metrics of the truth, of the true form fitted to the same rows and of
    the best linear model. `closed` holds by tower the share of the distance in AUC from the best
    linear model to the fitted true form, over all test rows and over those whose user and item
    are frequent in training.
    """
    if not (plan.references and isinstance(plan.source, FeedSettings)
            and len(examples.split.valid) and len(examples.split.test)):
        return {}
    found = feed_references(plan.source, plan.lake, examples, state / "references")
    labels = examples.labels[examples.split.test]
    closed: dict[str, Any] = {}
    for name, kept in (("all_rows", np.ones(len(labels), bool)), ("frequent", found.frequent)):
        linear, form = (found.logits[of][kept] for of in ("best_linear", "true_form"))
        distance = auc_difference(labels[kept], form, linear)
        if distance is None or distance[0] <= _LEAST_DISTANCE * distance[1]:
            continue
        start = auc(labels[kept], linear)
        closed[name] = {tower: (auc(labels[kept], scores[kept]) - start) / distance[0]
                        for tower, scores in logits.items()}
    return {"references": found.section(examples), "closed": closed}
