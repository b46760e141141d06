"""The yardstick that every tower must beat: a one-hot logistic regression on the same fields.

python -m benchmarks.quality.logistic_regression data=movietweetings window=time_fraction
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.quality.in_process import open_data
from dualdnn.data.examples import Examples
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.evaluation.metrics import auc, log_loss

STRENGTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def one_hot(examples: Examples, index: np.ndarray) -> csr_matrix:
    """(n, num_rows): the very rows that the towers read, ids, buckets and missing values."""
    rows = examples.rows[index]
    example, _ = np.nonzero(rows != PADDING_ROW)
    columns = rows[rows != PADDING_ROW]
    ones = np.ones(len(columns), np.float64)
    return csr_matrix((ones, (example, columns)), shape=(len(index), examples.row_map.num_rows))


def tuned_logits(examples: Examples, index: np.ndarray) -> tuple[np.ndarray, float]:
    """Logits of the model whose L2 strength is best on the validation part, and that strength."""
    split, labels = examples.split, examples.labels
    train, valid = one_hot(examples, split.train), one_hot(examples, split.valid)
    best = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=300)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train, labels[split.train])
        loss = log_loss(labels[split.valid], model.decision_function(valid))
        if best is None or loss < best[0]:
            best = (loss, strength, model)
    _, strength, model = best
    return model.decision_function(one_hot(examples, index)), strength


def main(overrides: list[str]) -> None:
    _, examples = open_data(overrides)
    for part in ("valid", "test"):
        index = getattr(examples.split, part)
        logits, strength = tuned_logits(examples, index)
        labels = examples.labels[index]
        print(f"{part}: AUC {auc(labels, logits):.4f}  log loss {log_loss(labels, logits):.4f}  "
              f"(C={strength})")


if __name__ == "__main__":
    main(sys.argv[1:])
