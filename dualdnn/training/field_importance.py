"""How much of a tower's AUC hangs on each field: the loss when its values become unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.data.translation import dense_of
from dualdnn.evaluation.paired import ComparedRows, paired_difference
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.scoring import Scorer


def without_field(examples: Examples, name: str, rows: np.ndarray,
                  dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs in which one field says nothing.

    Ids, lists and sequences read the row of values out of vocabulary in each of their cells that
    is not padding; numbers, hashes and vectors that of missing values, direct numbers and vectors
    with the floats of a missing value.

    Args:
        examples: whose schema and row map the inputs have.
        name: of the field.
        rows: (n, width) int32; copied.
        dense: (n, dense_width) float32; copied.
    """
    schema = examples.schema
    field = schema.field(name)
    position = schema.fields.index(field)
    rows, dense = rows.copy(), dense.copy()
    cells = rows[:, schema.cells(name)]
    cells[cells != PADDING_ROW] = examples.row_map.oov_rows[position]
    if field.dense_width:
        # (dense_width,) of a field without any value
        missing = dense_of(position, field, examples.row_map,
                           np.full((1, field.dense_width), np.nan, np.float32))
        dense[:, schema.dense(name)] = missing.reshape(-1)
    return rows, dense


def field_importance(
    model: DualDNN, best: BestWeights, examples: Examples, index: np.ndarray,
    towers: Sequence[str],
) -> dict[str, dict[str, dict[str, float]]]:
    """Loss of AUC of every tower per field of which nothing is known.

    The towers are not trained anew: a field that others can stand in for after training without
    it counts here with all that it is used for (Breiman 2001, "Random forests", section 10, with
    unknown values in the place of permuted ones). Given logits of a teacher's pool stay as they
    are: what a finished model knows by a field is not missed here.

    Args:
        model: the towers; it ends with the last one's best weights.
        best: of training.
        examples: the data.
        index: (n,) row numbers of the part to score.
        towers: names; those without best weights are left out.

    Returns:
        By tower and field, the most important first: `auc_loss`, AUC with the field less that
        without, and its standard error `error` by the bootstrap over groups, such as users, or
        over single rows where there are none; AUC and weights are those of `measure`. Privileged
        fields are left out of students, which do not read them. Empty where a class has no rows,
        or there is one group alone.
    """
    if not len(index):
        return {}
    scorer = Scorer(model)
    groups = None if examples.groups is None else examples.groups[index]
    compared = ComparedRows(examples.labels[index], groups, examples.stands_for(index))
    rows, dense, scores = examples.rows[index], examples.dense[index], examples.scores_at(index)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for tower in (tower for tower in towers if tower in best.dense):
        best.load_into(model, tower)
        intact = compared.measured(scorer(rows, [tower], dense, scores)[tower], "auc")
        losses = {}
        for field in examples.schema.fields:
            if field.privileged and tower != TEACHER:
                continue
            blind_rows, blind_dense = without_field(examples, field.name, rows, dense)
            blind = compared.measured(scorer(blind_rows, [tower], blind_dense, scores)[tower],
                                      "auc")
            if intact is None or blind is None:
                continue
            lost = paired_difference(intact, blind)
            if lost.error is not None:
                losses[field.name] = {"auc_loss": lost.value, "error": lost.error}
        if losses:
            found[tower] = dict(sorted(losses.items(), key=lambda one: -one[1]["auc_loss"]))
    return found

