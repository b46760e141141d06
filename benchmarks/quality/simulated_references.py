"""How good a model of the simulated feed can be: the truth, the best linear model, the true form.

python -m benchmarks.quality.simulated_references [--rows 2000000] [--regime pairwise ...]

On the test day of window=rolling (28 days train, 2 validate, 1 tests): the true probabilities;
an L2 logistic regression on the very rows that the towers read; the simulator's own formula fitted
to the same training rows. The strength of both fits is tuned on the validation days.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from benchmarks.quality.in_process import open_data
from dualdnn.data.examples import Examples
from dualdnn.data.lake import Lake
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.data.simulator.columns import IDS, cells_of
from dualdnn.data.simulator.fitted_form import FittedForm, Rows, fit_form
from dualdnn.data.simulator.formula import REGIMES
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.simulator.world import LEVELS
from dualdnn.evaluation.metrics import auc, log_loss, sigmoid
from dualdnn.evaluation.significance import auc_difference

SECONDS_PER_DAY = 86_400
YOUNG_DAYS = 3
FREQUENT = 20
Fit = TypeVar("Fit")


def one_hot(examples: Examples, index: np.ndarray) -> csr_matrix:
    """(n, num_rows): the rows that the towers read; multi-valued fields averaged, as they do."""
    rows = examples.rows[index]
    weights = (rows != PADDING_ROW).astype(np.float64)
    for field in examples.schema.fields:
        at = examples.columns(field.name)
        weights[:, at] /= np.maximum(weights[:, at].sum(axis=1, keepdims=True), 1.0)
    starts = np.arange(0, rows.size + 1, rows.shape[1])
    return csr_matrix((weights.ravel(), rows.ravel(), starts),
                      shape=(len(index), examples.row_map.num_rows))


def fitted_weights(features: csr_matrix, labels: np.ndarray, strength: float,
                   start: np.ndarray) -> np.ndarray:
    """Minimise the summed log loss + strength / 2 * squared norm; the last weight is the bias.

    L-BFGS on weights scaled by the square root of the curvature's diagonal: without it, frequent
    and rare columns need hundreds of steps.
    """
    rate = labels.mean()
    curvature = rate * (1 - rate) * np.append(np.asarray(features.power(2).sum(axis=0)).ravel(),
                                              len(labels))
    penalty = np.append(np.full(features.shape[1], strength), 0.0)
    scale = 1.0 / np.sqrt(curvature + penalty)
    transposed = features.T.tocsr()

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        weights = scale * scaled
        logits = features @ weights[:-1] + weights[-1]
        value = np.logaddexp(0.0, (1.0 - 2.0 * labels) * logits).sum()
        residual = sigmoid(logits) - labels
        gradient = np.append(transposed @ residual, residual.sum()) + penalty * weights
        return value + 0.5 * (penalty * weights**2).sum(), scale * gradient

    found = minimize(loss, start / scale, jac=True, method="L-BFGS-B",
                     options={"maxiter": 200, "ftol": 1e-8, "gtol": 1e-2})
    return scale * found.x


def tuned(fit: Callable[[float], tuple[float, Fit]], strength: float, factor: float
          ) -> tuple[float, Fit]:
    """The strength with the lowest loss and its fit: upwards from `strength`, then downwards."""
    loss, found = fit(strength)
    for direction in (factor, 1 / factor):
        moved = False
        while True:
            other_loss, other = fit(strength * direction)
            if other_loss >= loss:
                break
            loss, found, strength, moved = other_loss, other, strength * direction, True
        if moved:
            break
    return strength, found


def linear_logits(examples: Examples) -> tuple[np.ndarray, float]:
    """Test logits of the linear model whose strength is best on validation, and the strength."""
    split, labels = examples.split, examples.labels.astype(np.float64)
    train, valid = one_hot(examples, split.train), one_hot(examples, split.valid)
    start = np.zeros(train.shape[1] + 1)

    def fit(strength: float) -> tuple[float, np.ndarray]:
        nonlocal start
        start = fitted_weights(train, labels[split.train], strength, start)
        return log_loss(labels[split.valid], valid @ start[:-1] + start[-1]), start

    strength, weights = tuned(fit, 8.0, 2.0)
    return one_hot(examples, split.test) @ weights[:-1] + weights[-1], strength


def lake_columns(lake: Lake, examples: Examples, names: Sequence[str]) -> pa.Table:
    """Columns of the lake, row for row beside `examples`."""
    return pa.concat_tables([pq.ParquetFile(path).read(columns=list(names))
                             for day in examples.days for path in lake.files(day.day)])


def form_logits(rows: Rows, examples: Examples, settings: FeedSettings
                ) -> tuple[np.ndarray, float]:
    """Test logits of the true form whose strength is best on validation, and the strength."""
    split = examples.split
    train, valid = rows.at(split.train), rows.at(split.valid)

    def fit(strength: float) -> tuple[float, FittedForm]:
        form, loss = fit_form(train, valid, settings=settings, strength=strength)
        return loss, form

    strength, form = tuned(fit, 1.5, 1.5)
    return form.score(rows.at(split.test)), strength


def frequent(cells: np.ndarray, examples: Examples) -> np.ndarray:
    """Of the test rows: does this id occur often enough in training?"""
    counts = np.bincount(cells[examples.split.train], minlength=int(cells.max()) + 1)
    return counts[cells[examples.split.test]] >= FREQUENT


def show(regime: str, rows: int, state: str) -> None:
    overrides = ["data=simulated_feed", f"data.source.regime={regime}",
                 f"data.source.rows={rows}", "window=rolling", "window.valid_days=2",
                 f"paths.state={state}"]
    plan, examples = open_data(overrides)
    settings = plan.source
    assert isinstance(settings, FeedSettings)
    table = lake_columns(plan.lake, examples,
                         [*IDS, *LEVELS, "timestamp", "true_probability"])
    days = table["timestamp"].to_numpy() // SECONDS_PER_DAY
    start = np.datetime64(settings.start()).astype("datetime64[D]").astype(int)
    everything = Rows(cells={name: cells_of(name, table[name]) for name in (*IDS, *LEVELS)},
                      days=(days - start).astype(np.int32), labels=examples.labels)
    test = examples.split.test
    truth = table["true_probability"].to_numpy()[test]
    began = time.perf_counter()
    linear, linear_strength = linear_logits(examples)
    linear_seconds = time.perf_counter() - began
    began = time.perf_counter()
    form, form_strength = form_logits(everything, examples, settings)
    form_seconds = time.perf_counter() - began
    scores = {"truth": np.log(truth / (1 - truth)),
              f"true form, fitted (strength {form_strength:g}, {form_seconds:.0f} s)": form,
              f"best linear (strength {linear_strength:g}, {linear_seconds:.0f} s)": linear}
    labels = examples.labels[test]
    known = frequent(everything.cells["user_id"], examples)
    known &= frequent(everything.cells["item_id"], examples)
    young = everything.cells["item_age_days"][test] < YOUNG_DAYS
    print(f"\n### {regime}, {rows} rows\n\n{len(test)} test rows, {young.mean():.1%} of items "
          f"younger than {YOUNG_DAYS} days, {known.mean():.1%} with user and item >= {FREQUENT} "
          f"times in training; click rate {labels.mean():.3f}\n\n"
          "| | AUC | log loss | AUC, frequent | log loss, frequent |\n|---|---|---|---|---|")
    for name, logits in scores.items():
        print(f"| {name} | {auc(labels, logits):.4f} | {log_loss(labels, logits):.4f} | "
              f"{auc(labels[known], logits[known]):.4f} | "
              f"{log_loss(labels[known], logits[known]):.4f} |")
    for name, logits in (("truth", scores["truth"]), ("true form", form)):
        difference, error = auc_difference(labels, logits, linear)
        print(f"\n{name} − best linear: AUC {difference:+.4f} ± {error:.4f}", end="")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--state", default="state", help="where lakes and encoded days are kept")
    given = parser.parse_args()
    for regime in given.regime:
        show(regime, given.rows, given.state)


if __name__ == "__main__":
    main()
