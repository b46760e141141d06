import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.distillation.losses import label_loss
from dualdnn.errors import ConfigError
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from tests.pool_run import HIDDEN, network_of, own_embedding, pool_of, pooled_model
from tests.tiny_run import embedding_for, open_tiny

STEP = tf.constant(5, tf.int64)
ROWS = 40


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


def answer_of(examples, model, scores=None):
    pooled = model.lookup(examples.rows[:ROWS], examples.dense[:ROWS])
    return model.forward(pooled, STEP, [TEACHER], scores=scores)[TEACHER]


def losses_of(examples, model, scores=None):
    pooled = model.lookup(examples.rows[:ROWS], examples.dense[:ROWS])
    outputs = model.forward(pooled, STEP, scores=scores, training=[TEACHER])
    return model.tower_losses(outputs, tf.constant(examples.labels[:ROWS]), tf.ones(ROWS))


def gate_as(model, kernel, bias):
    """Give a learned gate these weights in every row of its kernel."""
    gate = model.teacher.gate
    gate.set_weights([np.tile(kernel, (gate.kernel.shape[0], 1)), np.array(bias)])


# --- how members are combined ---

def test_members_answer_as_towers_of_their_own(examples):
    model = pooled_model(examples, ("cross", "own"))
    output = answer_of(examples, model)
    embeddings = {"cross": embedding_for(examples, "shared", linear=True, privileged=True),
                  "own": own_embedding(examples)}
    for i, (name, embedding) in enumerate(embeddings.items()):
        alone = DualDNN(embedding=embedding, teacher=network_of(name))
        np.testing.assert_array_equal(output.members[:, i], answer_of(examples, alone).logits)


@pytest.mark.parametrize(("weights", "shares"), [
    (None, [1 / 3, 1 / 3, 1 / 3]),
    ({"own": 1.0, "cross": 3.0, "fm": 0.0}, [0.75, 0.0, 0.25]),
])
def test_fixed_shares(examples, weights, shares):
    output = answer_of(examples, pooled_model(examples, ("cross", "fm", "own"), weights=weights))
    np.testing.assert_allclose(output.logits, np.matmul(output.members, shares), rtol=1e-5,
                               atol=1e-7)
    np.testing.assert_allclose(output.gate, np.tile(shares, (ROWS, 1)), rtol=1e-6)


def test_a_learned_gate_starts_as_the_mean_and_shares_by_example(examples):
    model = pooled_model(examples, learned_gate=True)
    first = answer_of(examples, model)
    np.testing.assert_allclose(first.gate, np.full((ROWS, 2), 0.5), rtol=1e-6)
    np.testing.assert_allclose(first.logits, np.mean(first.members, axis=1), rtol=1e-5, atol=1e-7)

    gate_as(model, [5.0, -3.0], [0.2, 0.0])
    then = answer_of(examples, model)
    shared = model.lookup(examples.rows[:ROWS], examples.dense[:ROWS])["shared"][0]
    flat = np.reshape(shared, (ROWS, -1)).astype(np.float64)
    powers = np.exp(flat.sum(axis=1, keepdims=True) * [5.0, -3.0] + [0.2, 0.0])
    shares = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(then.gate, shares, rtol=1e-4)
    np.testing.assert_allclose(np.sum(then.gate, axis=1), np.ones(ROWS), rtol=1e-6)
    np.testing.assert_allclose(then.logits, np.sum(shares * then.members, axis=1), rtol=1e-4,
                               atol=1e-6)
    assert np.std(then.gate[:, 0]) > 0.01


def test_given_logits_are_members(examples):
    model = pooled_model(examples, scored=["earlier", "elsewhere"])
    scores = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    output = answer_of(examples, model, scores)
    assert model.scored == ["earlier", "elsewhere"]
    np.testing.assert_array_equal(output.members[:, 2:], scores)
    np.testing.assert_allclose(output.logits, np.mean(output.members, axis=1), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="needs the logits of earlier, elsewhere with every batch"):
        answer_of(examples, model)


def test_a_tower_without_first_order_weights_ignores_those_of_the_embedding(examples):
    logits = {}
    for linear in (True, False):
        model = pooled_model(examples, linear=linear)
        column = model.embedding.tables["main"].linear
        column.assign(tf.reshape(tf.range(float(column.shape[0] or len(column.numpy()))), (-1, 1)))
        logits[linear] = answer_of(examples, model).logits.numpy()
        of_rows = model.lookup(examples.rows[:ROWS], examples.dense[:ROWS])["shared"][1]
    np.testing.assert_allclose(logits[True] - logits[False], np.sum(of_rows, axis=(1, 2)),
                               rtol=1e-3)


# --- what they learn from ---

def test_every_tower_has_a_label_loss_of_its_own(examples):
    model = pooled_model(examples, ("cross", "fm"), dropout=0.0)
    output, losses = answer_of(examples, model), losses_of(examples, model)[TEACHER]
    labels = examples.labels[:ROWS]
    each = [np.mean(label_loss(labels, output.members[:, i])) for i in range(2)]
    assert float(losses["label_loss.cross"]) == pytest.approx(each[0])
    assert float(losses["label_loss.fm"]) == pytest.approx(each[1])
    assert float(losses["total"]) == pytest.approx(sum(each) / 2)
    of_pool = float(np.mean(label_loss(labels, output.logits)))
    assert float(losses["label_loss"]) == pytest.approx(of_pool)
    assert of_pool < sum(each) / 2  # Jensen

    learned = losses_of(examples, pooled_model(examples, learned_gate=True, dropout=0.0))[TEACHER]
    assert float(learned["total"]) == pytest.approx(sum(each) / 2 + of_pool)

    apart = losses_of(examples, pooled_model(examples, ("cross", "fm", "own"),
                                             dropout=0.0))[TEACHER]
    assert float(apart["total"]) == pytest.approx(sum(each) / 2 + float(apart["label_loss.own"]))


def touched(examples, model, loss, scores=None):
    """What a loss of the teacher has a gradient for."""
    towers = model.teacher.towers
    groups = {name: tower.network.trainable_variables for name, tower in towers.items()}
    groups |= {f"table {t.name}": t.columns() for t in model.tables([TEACHER])}
    if model.teacher.gate:
        groups["gate"] = model.teacher.gate.trainable_variables
    with tf.GradientTape() as tape:
        value = losses_of(examples, model, scores)[TEACHER][loss]
    gradients = tape.gradient(value, groups)
    return {name for name, found in gradients.items()
            if any(g is not None and np.any(tf.convert_to_tensor(g)) for g in found)}


def test_each_loss_reaches_its_own_part(examples):
    model = pooled_model(examples, ("cross", "fm", "own"), learned_gate=True, scored=["earlier"])
    gate_as(model, [5.0, -3.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.3])
    scores = np.ones((ROWS, 1), np.float32)
    assert touched(examples, model, "label_loss.cross", scores) == {"cross", "table shared"}
    assert touched(examples, model, "label_loss.fm", scores) == {"fm", "table shared"}
    assert touched(examples, model, "label_loss.own", scores) == {"own", "table teacher.own"}
    assert touched(examples, model, "label_loss", scores) == {"gate"}


# --- hints ---

@pytest.mark.parametrize(("hint_from", "name"), [(None, "cross"), ("fm", "fm")])
def test_hidden_layers_are_those_of_one_tower(examples, hint_from, name):
    model = pooled_model(examples, hint_from=hint_from)
    hidden = answer_of(examples, model).hidden
    assert [layer.shape[1] for layer in hidden] == HIDDEN[name]
    assert [layer.units for layer in model.teacher.mlp.dense] == HIDDEN[name]


# --- mistakes ---

@pytest.mark.parametrize(("names", "options", "message"), [
    (("own",), {}, "no tower that learns on the shared embedding, which the students read"),
    (("cross",), {"scored": ["cross"]}, "two members named cross"),
    (("cross",), {"hint_from": "fm"}, "hint_from names `fm`, which is no tower that learns; those "
                                      "are cross"),
    (("cross", "fm"), {"weights": {"cross": 1.0, "fm": 1.0}, "learned_gate": True},
     "fixed weights and a learned gate"),
    (("cross", "fm"), {"weights": {"cross": 1.0}}, "weights must name each member once: cross, fm; "
                                                   "got cross"),
    (("cross", "fm"), {"weights": {"cross": 2.0, "fm": -1.0}},
     "weights must be finite and >= 0, .* got cross 2, fm -1"),
    (("cross", "fm"), {"weights": {"cross": 2.0, "fm": float("nan")}},
     "weights must be finite and >= 0, .* got cross 2, fm nan"),
    (("cross", "fm"), {"weights": {"cross": 0.0, "fm": 0.0}}, "one of them above 0"),
])
def test_pools_that_make_no_sense_are_refused(names, options, message):
    with pytest.raises(ConfigError, match=message):
        pool_of(names, **options)


def test_an_embedding_that_no_tower_reads_is_refused(examples):
    shared = embedding_for(examples, "shared", linear=True, privileged=True)
    with pytest.raises(ConfigError, match=r"read embeddings \[0\], but the teacher has 2"):
        DualDNN(embedding=shared, teacher=pool_of(), teacher_embeddings=[own_embedding(examples)])
    with pytest.raises(ConfigError, match=r"read embeddings \[0, 1\], but the teacher has 1"):
        DualDNN(embedding=shared, teacher=pool_of(("cross", "own")))
