"""How good a model of a simulated feed can be: the truth, the true form, the best linear model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dualdnn.data.examples import Examples
from dualdnn.data.lake import Lake
from dualdnn.data.simulator.columns import IDS, cells_of
from dualdnn.data.simulator.fitted_form import FittedForm, Rows, fit_form
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.simulator.world import LEVELS
from dualdnn.data.sources.past_statistics import SECONDS_PER_DAY
from dualdnn.evaluation.linear_reference import linear_logits, tuned
from dualdnn.evaluation.metrics import auc, log_loss
from dualdnn.storage import atomic_file, lock

YOUNG_DAYS = 3
FREQUENT = 20
_NAMES = ("truth", "true_form", "best_linear")
# Raise it when a fit changes: what is kept on disk is then fitted again.
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FeedReferences:
    """Scores of the test rows by models that know more, and less, than any tower.

    Attributes:
        logits: (rows_test,) by name: `truth`, the probabilities that labels were drawn from;
            `true_form`, the simulator's formula fitted to the training rows; `best_linear`, an
            L2 logistic regression on the very rows that the towers read. The strengths of both
            fits are tuned on the validation part.
        frequent: (rows_test,) bool, user and item occur at least 20 times in training.
        young: (rows_test,) bool, the item is younger than 3 days.
    """

    logits: Mapping[str, np.ndarray]
    frequent: np.ndarray
    young: np.ndarray

    def section(self, examples: Examples) -> dict[str, Any]:
        """Metrics of each reference, over all test rows and over the frequent ones.

        Where negatives were sampled they are those of towers: of probabilities before sampling,
        each negative standing for those that were left out.
        """
        test = examples.split.test
        labels, weights = examples.labels[test], examples.population_weights(test)
        sections: dict[str, Any] = {}
        for name, logits in self.logits.items():
            # The truth is that of the log before sampling; what was fitted, was to the sample.
            served = logits + (0.0 if name == "truth" else np.log(examples.negative_rate))
            sections[name] = {}
            for prefix, kept in (("", np.ones(len(test), bool)), ("frequent_", self.frequent)):
                of_rows = None if weights is None else weights[kept]
                for metric, measure in (("auc", auc), ("log_loss", log_loss)):
                    sections[name][f"{prefix}{metric}"] = measure(labels[kept], served[kept],
                                                                  of_rows)
        return sections


def feed_references(settings: FeedSettings, lake: Lake, examples: Examples,
                    folder: Path) -> FeedReferences:
    """Measure or fit the references, or read them where that was done before.

    Args:
        settings: of the feed.
        lake: its log.
        examples: the window; needs a validation part.
        folder: where fits are kept, one file for each feed and split.

    Raises:
        DataError: there is no validation part.
    """
    split = examples.split
    parts = [hashlib.sha256(part.tobytes()).hexdigest()
             for part in (split.train, split.valid, split.test)]
    key = [_FORMAT, sorted(asdict(settings).items()), examples.schema.hash(),
           examples.fingerprint, *parts]
    path = folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.npz"
    with lock(folder / ".lock", wait=True):
        if not path.exists():
            found = _fitted(settings, lake, examples)
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, frequent=found.frequent, young=found.young,
                         logits=np.stack([found.logits[name] for name in _NAMES]))
    with np.load(path) as arrays:
        return FeedReferences(logits=dict(zip(_NAMES, arrays["logits"], strict=True)),
                              frequent=arrays["frequent"], young=arrays["young"])


def true_probabilities(lake: Lake, examples: Examples) -> np.ndarray:
    """The click probabilities that the labels of a simulated feed were drawn from.

    Args:
        lake: its log.
        examples: the window.

    Returns:
        (rows,) float64 of the opened days, in the order of `examples`.
    """
    columns = [pq.ParquetFile(path).read(columns=["true_probability"]).column(0).to_numpy()
               for day in examples.days for path in lake.files(day.day)]
    return np.concatenate(columns).astype(np.float64)


def _fitted(settings: FeedSettings, lake: Lake, examples: Examples) -> FeedReferences:
    columns = (*IDS, *LEVELS, "timestamp")
    table = pa.concat_tables([pq.ParquetFile(path).read(columns=list(columns))
                              for day in examples.days for path in lake.files(day.day)])
    start = int(np.datetime64(settings.start()).astype("datetime64[D]").astype(np.int64))
    days = table["timestamp"].to_numpy() // SECONDS_PER_DAY - start
    rows = Rows(cells={name: cells_of(name, table[name]) for name in (*IDS, *LEVELS)},
                days=days.astype(np.int32), labels=examples.labels)
    split = examples.split
    truth = true_probabilities(lake, examples)[split.test]
    frequent = np.ones(len(split.test), bool)
    for name in ("user_id", "item_id"):
        cells = rows.cells[name]
        counts = np.bincount(cells[split.train], minlength=int(cells.max()) + 1)
        frequent &= counts[cells[split.test]] >= FREQUENT
    linear, _ = linear_logits(examples)
    return FeedReferences(
        logits={"truth": np.log(truth / (1 - truth)),
                "true_form": _form_logits(rows, examples, settings), "best_linear": linear},
        frequent=frequent, young=rows.cells["item_age_days"][split.test] < YOUNG_DAYS,
    )


def _form_logits(rows: Rows, examples: Examples, settings: FeedSettings) -> np.ndarray:
    """Test logits of the true form whose prior is best on the validation part."""
    train, valid = rows.at(examples.split.train), rows.at(examples.split.valid)

    def fit(strength: float) -> tuple[float, FittedForm]:
        form, loss = fit_form(train, valid, settings=settings, strength=strength)
        return loss, form

    _, form = tuned(fit, 1.5, 1.5)
    return form.score(rows.at(examples.split.test))
