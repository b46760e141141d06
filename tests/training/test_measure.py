import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dualdnn.distillation.objective import Objective
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.best_weights import BestWeights
from dualdnn.training.measure import count_parameters, measure, weights_sha256
from dualdnn.training.scoring import Scorer
from tests.tiny_run import EVERYTHING, build_model, open_tiny, weights_of

TOWERS = (TEACHER, "s0", "alone")


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


@pytest.fixture(scope="module")
def setting(examples):
    """A model whose towers were kept at different steps, with their scores at that time."""
    model = build_model(examples, [EVERYTHING], alone=True)
    best, scores = BestWeights(), {}
    rows = examples.rows[examples.split.test]
    for step, tower in enumerate(TOWERS):
        vectors = model.embedding.tables["main"].vectors
        vectors.assign_add(vectors)
        best.keep(model, tower, step)
        scores[tower] = Scorer(model)(rows, [tower])[tower]
    vectors = model.embedding.tables["main"].vectors
    vectors.assign(0 * vectors)
    return model, best, scores


@pytest.fixture(scope="module")
def measured(setting, examples):
    model, best, _ = setting
    return measure(model, best, examples, examples.split.test, slices=["tags", "age", "user"])


def test_every_tower_is_scored_with_its_best_weights_and_the_table_of_that_time(setting, measured,
                                                                               examples):
    labels = examples.labels[examples.split.test]
    for tower in TOWERS:
        np.testing.assert_array_equal(measured[1][tower], setting[2][tower])
        assert measured[0][tower]["auc"] == pytest.approx(
            roc_auc_score(labels, setting[2][tower]))


def test_scoring_in_blocks_equals_scoring_at_once(setting, examples, monkeypatch):
    monkeypatch.setattr("dualdnn.training.scoring._BATCH_ROWS", 50)
    found = Scorer(setting[0])(examples.rows, ["alone", TEACHER])
    monkeypatch.setattr("dualdnn.training.scoring._BATCH_ROWS", 10_000)
    whole = Scorer(setting[0])(examples.rows, [TEACHER, "alone"])
    for tower in ("alone", TEACHER):
        np.testing.assert_allclose(found[tower], whole[tower], atol=1e-6)
    assert Scorer(setting[0])(examples.rows[:0], ["s0"])["s0"].shape == (0,)


def test_slices_equal_a_look_at_the_lake(measured, examples):
    test = examples.split.test
    values = {}
    start = 0
    for day in examples.days:
        cells, texts = day.cells("tags"), day.values()
        for row in range(day.rows):
            values[start + row] = {texts[c] for c in cells[row] if 0 <= c < len(texts)}
        start += day.rows
    slices = measured[0]["s0"]["slices"]
    assert slices["tags=t0"]["rows"] == sum("t0" in values[row] for row in test)
    assert slices["tags=t2ü"]["rows"] == sum("t2ü" in values[row] for row in test)
    assert slices["tags=(missing)"]["rows"] == sum(not values[row] for row in test)
    ages = np.concatenate([day.numbers("age") for day in examples.days])[test]
    assert slices["age=(missing)"]["rows"] == int(np.isnan(ages).sum())
    first, *_, last = examples.row_map.boundaries_of(3)
    assert slices[f"age=[-inf, {first:g})"]["rows"] == int((ages < first).sum())
    assert slices[f"age=[{last:g}, inf)"]["rows"] == int((ages >= last).sum())


def test_new_and_known_divide_the_rows(measured, examples):
    slices = measured[0][TEACHER]["slices"]
    for side in ("user", "item"):
        known = examples.is_known(side, examples.split.test)
        assert slices[f"known_{side}"]["rows"] == known.sum()
        assert slices[f"new_{side}"]["rows"] == (~known).sum()


def test_parameters_are_those_of_a_served_tower(setting, examples):
    model, rows = setting[0], examples.row_map.num_rows
    # Input of 4 fields x 4 floats; 6 hidden units; no hint projections; vectors and linear weights.
    light = (16 * 6 + 6) + (6 + 1)
    assert count_parameters(model, "s0") == {
        "params_dense": light, "params_embedding": 5 * rows, "bytes_dense": 4 * light}
    # One cross layer, 8 and 4 units, an output over both; vectors and linear weights.
    heavy = (16 * 16 + 16) + (16 * 8 + 8) + (8 * 4 + 4) + (16 + 4 + 1)
    assert count_parameters(model, TEACHER) == {
        "params_dense": heavy, "params_embedding": 5 * rows, "bytes_dense": 4 * heavy}


def test_weights_digest_covers_dense_weights_and_table(setting, measured):
    model, best, _ = setting
    for tower in TOWERS:
        best.load_into(model, tower)
        content = b"".join(value.tobytes() for value in weights_of(model, tower))
        assert measured[0][tower]["weights_sha256"] == hashlib.sha256(content).hexdigest()
    changed = replace(best, dense={**best.dense, "s0": [v + 1e-6 for v in best.dense["s0"]]})
    assert weights_sha256(changed, "s0") != measured[0]["s0"]["weights_sha256"]


def test_towers_stand_in_the_order_of_the_model_whichever_was_kept_first(setting, examples):
    model, kept, _ = setting
    best = replace(kept, dense=dict(reversed(kept.dense.items())))
    assert list(measure(model, best, examples, examples.split.test)[1]) == list(TOWERS)


def test_a_tower_without_best_weights_is_left_out(setting, examples):
    model = build_model(examples, [Objective()])
    best = BestWeights()
    best.keep(model, TEACHER, 1)
    found, logits = measure(model, best, examples, examples.split.test)
    assert list(found) == list(logits) == [TEACHER]


def test_an_empty_part_is_not_measured(setting, examples):
    found, logits = measure(setting[0], setting[1], examples, examples.split.test[:0])
    assert logits["s0"].shape == (0,)
    assert found["s0"].get("auc") is None
    assert found["s0"]["weights_sha256"]


def test_a_slice_that_is_no_field_is_refused(setting, examples):
    with pytest.raises(DataError, match="names `genre`, which is not a field of this run; it has "
                                        "user, item, tags, age"):
        measure(setting[0], setting[1], examples, examples.split.test, slices=["genre"])
