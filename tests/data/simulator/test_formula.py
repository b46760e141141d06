import numpy as np
import pytest

from dualdnn.data.simulator.formula import (
    REGIMES,
    VERSION,
    Formula,
    Part,
    Term,
    formula_of,
    layers_on,
    num_layers,
)

DIGESTS = {
    "additive": "db50dbac6adf", "pairwise": "27641bf34a31", "third_order": "ceadd1dce668",
    "drifting": "430bb96d481f",
}
MOVING = Part(table="t", field="f", weight=1.0, moves=True)


def factors_of(regime):
    return [len(term.factors) for term in formula_of(regime).terms]


def test_the_numbers_of_version_1_are_frozen():
    # Results are compared across time: other numbers are another version.
    assert VERSION == 1
    assert {regime: formula_of(regime).digest()[:12] for regime in REGIMES} == DIGESTS


def test_each_regime_has_the_orders_that_its_name_says():
    assert set(factors_of("additive")) == {1}
    assert set(factors_of("pairwise")) == {1, 2}
    assert set(factors_of("third_order")) == {1, 2, 3}
    assert factors_of("drifting") == factors_of("pairwise")
    assert [part.moves for part, _ in formula_of("pairwise").parts()].count(True) == 0
    assert {part.table for part, _ in formula_of("drifting").parts() if part.moves} == {
        "effect.item_id", "effect.tags", "taste.segment", "taste.user_id"}


def test_no_effect_in_the_additive_regime_is_of_two_fields():
    assert all(len(factor) == 1 for term in formula_of("additive").terms
               for factor in term.factors)


@pytest.mark.parametrize("regime", REGIMES)
def test_every_table_has_one_name(regime):
    tables = [part.table for part, _ in formula_of(regime).parts()]
    assert len(set(tables)) == len(tables)


def test_the_logit_of_a_product_by_hand():
    # 0.5 + 2/sqrt(4) * [(1*1 + 3*10) * (2*100) + (1*2 + 3*20) * (2*200) + ...], rank 4.
    tables = {"a": [1, 2, 0, 0], "b": [10, 20, 0, 0], "c": [100, 200, 5, 5]}
    formula = Formula(intercept=0.5, terms=(Term(factors=(
        (Part(table="a", field="x", weight=1.0), Part(table="b", field="y", weight=3.0)),
        (Part(table="c", field="z", weight=2.0),)), rank=4, scale=2.0),))
    logits = formula.logits(lambda part: np.array([tables[part.table]], float),
                            lambda products: products.sum(axis=-1))
    assert logits.tolist() == [0.5 + 31 * 200 + 62 * 400]


def test_what_moves_keeps_its_spread_and_layers_exist():
    for days in (1, 2, 10, 11, 31, 40):
        for day in range(days):
            layers = layers_on(MOVING, day)
            assert max(layer for layer, _ in layers) < num_layers(MOVING, days)
            assert sum(share**2 for _, share in layers) == pytest.approx(1.0)


def test_what_moves_changes_little_in_a_day_and_is_half_renewed_in_ten():
    def correlation(one, other):
        shares = dict(layers_on(MOVING, one))
        return sum(share * shares.get(layer, 0.0) for layer, share in layers_on(MOVING, other))

    assert all(correlation(day, day + 1) > 0.98 for day in range(30))
    assert all(correlation(day, day + 10) < 0.76 for day in range(30))
    assert correlation(0, 10) == pytest.approx(0.5)


def test_what_rests_is_one_layer():
    still = Part(table="t", field="f", weight=1.0)
    assert num_layers(still, 31) == 1
    assert layers_on(still, 17) == [(0, 1.0)]
