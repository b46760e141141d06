"""A student of every scheme on a feed with every kind of field: who reads and moves what."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.data.lake import Lake
from dualdnn.distillation.objective import Objective
from dualdnn.distillation.schemes import SCHEMES
from dualdnn.export.student import export_student
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.training.best_weights import load_best_weights
from dualdnn.training.measure import count_parameters, measure
from dualdnn.training.scoring import Scorer
from dualdnn.training.warm_start import _dense_variable, _Fields, warm_start
from tests.rich_feed import KEY, open_rich
from tests.tiny_run import EVERYTHING, build_model, build_trainer, weights_of

EXTRA = ["item", "hour", "seen", "city", "price", "cover", "item_vec", "tuned_vec"]
TWO_STAGE = SCHEMES["two_stage"].masked(EVERYTHING)
ROCKET = SCHEMES["rocket_launching"].masked(EVERYTHING)
# By tower of the model below its scheme.
STUDENTS = {"s0": "co_training", "late0": "two_stage", "late1": "two_stage_hints",
            "own": "two_stage_own_embedding", "extra": "feature_transfer", "alone": "alone"}


@pytest.fixture(autouse=True, scope="module")
def key():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALDNN_PII_KEY", KEY)
        yield KEY.encode()


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    return tmp_path_factory.mktemp("rich")


@pytest.fixture(scope="module")
def examples(feed, key):
    return open_rich(feed)


def model_of(examples, **changes):
    return build_model(examples, [EVERYTHING], **{
        "alone": True, "late": [TWO_STAGE, EVERYTHING], "late_own": TWO_STAGE,
        "extra": EXTRA, **changes})


@pytest.fixture(scope="module")
def run(examples, tmp_path_factory):
    model = model_of(examples)
    trainer = build_trainer(examples, model, tmp_path_factory.mktemp("run"), epochs=1,
                            consolidation_epochs=1)
    trainer.run()
    return model, trainer


def state_of(model):
    """By tower its network, and by embedding all of it that may learn."""
    found = {tower: model.network_variables(tower) for tower in model.towers}
    found |= {f"embedding {one.name}": one.trained_variables()
              for one in model.embeddings(model.towers)}
    return {name: [variable.numpy() for variable in variables]
            for name, variables in found.items()}


def changed_by(examples, train_step, towers):
    """What one step of some towers changes."""
    before = state_of(train_step.model)
    train_step.run(towers, examples.batch(examples.split.train[:40]), 0)
    after = state_of(train_step.model)
    return {name for name in before if any(
        np.any(a != b) for a, b in zip(before[name], after[name], strict=True))}, after


@pytest.fixture(scope="module")
def fresh_step(examples, tmp_path_factory):
    return build_trainer(examples, model_of(examples), tmp_path_factory.mktemp("step")).train_step


@pytest.mark.parametrize(("tower", "changed"), [
    ("s0", {"s0"}), ("late0", {"late0"}), ("late1", {"late1"}), ("own", {"own", "embedding own"}),
    ("extra", {"extra", "embedding extra"}), ("alone", {"alone", "embedding alone"}),
])
def test_what_a_step_of_one_student_changes(examples, fresh_step, tower, changed):
    found, _ = changed_by(examples, fresh_step, [tower])
    assert found == changed


def test_a_step_with_the_teacher_changes_it_as_one_without_students_does(examples, tmp_path):
    def stepped(objective, towers):
        model = build_model(examples, [objective])
        return changed_by(examples, build_trainer(examples, model, tmp_path).train_step, towers)

    _, alone = stepped(Objective(), [TEACHER])
    for objective, moves in ((EVERYTHING, False), (ROCKET, True)):
        changed, after = stepped(objective, [TEACHER, "s0"])
        assert changed == {TEACHER, "s0", "embedding shared"}
        # The booster's own weights follow its own loss; what it reads next is another embedding.
        for mine, theirs in zip(after[TEACHER], alone[TEACHER], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)
        same = all(np.array_equal(a, b) for a, b in zip(
            after["embedding shared"], alone["embedding shared"], strict=True))
        assert same != moves


def test_no_student_reads_a_privileged_field(examples, run):
    model, _ = run
    index = np.arange(40)
    batch = examples.batch(index)
    changed = batch.rows.copy(), batch.dense.copy()
    for field in examples.schema.fields:
        if field.privileged:
            changed[0][:, examples.schema.cells(field.name)] = 1
            changed[1][:, examples.schema.dense(field.name)] = 5.0
    scorer = Scorer(model)
    before = scorer(batch.rows, model.towers, batch.dense)
    after = scorer(changed[0], model.towers, changed[1])
    assert set(model.towers) == {TEACHER, *STUDENTS}
    for tower in model.towers:
        if tower == TEACHER:
            assert np.all(before[tower] != after[tower])
        else:
            np.testing.assert_array_equal(before[tower], after[tower])


def test_an_extra_field_is_read_in_the_students_own_embedding_and_there_alone(examples, run):
    model, _ = run
    public = [field.name for field in examples.schema.public.fields]
    shared, own = model.embeddings_of("extra")
    assert [f.name for f in model.fields_of("extra", own)] == EXTRA
    read = [f.name for f in model.fields_of("extra", shared)]
    assert read == [name for name in public if name not in EXTRA]
    rows, dense = examples.rows[:40], examples.dense[:40]
    scorer = Scorer(model)
    before = scorer(rows, ["extra"], dense)["extra"]
    item = examples.schema.cells("item")

    def after(embedding, cells):
        """Its scores when the rows of some cells are other ones."""
        vectors = embedding.tables["main"].vectors
        kept = vectors.numpy()
        changed = kept.copy()
        changed[rows[:, cells]] += 1
        vectors.assign(changed)
        found = scorer(rows, ["extra"], dense)["extra"]
        vectors.assign(kept)
        return found

    # Rows of items are also read by `related`, from the teacher's table.
    np.testing.assert_array_equal(
        before, after(own, examples.schema.cells("user")))
    assert np.all(before != after(own, item))
    assert np.all(before != after(shared, examples.schema.cells("user")))


def test_a_late_run_leaves_the_teacher_and_those_that_started_with_it_bit_identical(
        examples, run, tmp_path):
    _, trainer = run
    model = build_model(examples, [EVERYTHING], alone=True)
    short = build_trainer(examples, model, tmp_path, epochs=1)
    short.run()
    for tower in (TEACHER, "alone"):
        for mine, theirs in zip(short.best.of_tower(tower), trainer.best.of_tower(tower),
                                strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert trainer.progress["s0"].best <= short.progress["s0"].best


@pytest.mark.parametrize("tower", ["late0", "own", "extra", "s0"])
def test_a_student_of_any_scheme_is_served_as_it_was_trained(examples, feed, run, tmp_path, tower):
    model, trainer = run
    exported, _ = export_student(model=model, best=trainer.best, examples=examples,
                                 lake=Lake(feed / "lake"), student=tower, folder=tmp_path,
                                 manifest={})
    assert exported.parity_max_abs <= 1e-6
    text = (exported.path / "saved_model.pb").read_bytes()
    for word in (b"dwell", b"touch", b"next", b"stop", b"privileged", b"teacher"):
        assert word not in text, word
    listed = tf.train.list_variables(str(exported.path / "variables" / "variables"))
    size = sum(int(np.prod(shape)) for name, shape in listed if "tower_variables" in name)
    counted = count_parameters(model, tower)
    assert size == counted["params_dense"] + counted["params_embedding"]


def test_best_weights_on_disk_bring_back_both_embeddings(examples, run, tmp_path):
    model, trainer = run
    expected = {tower: trainer.best.of_tower(tower) for tower in model.towers}
    trainer.best.save(tmp_path / "model")
    loaded = load_best_weights(tmp_path / "model", model.towers)
    fresh = model_of(examples)
    loaded.load_into(fresh, "extra")
    for mine, theirs in zip(weights_of(fresh, "extra"), expected["extra"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    measured, _ = measure(fresh, loaded, examples, examples.split.test)
    assert set(measured) == {TEACHER, *STUDENTS}
    digests = [numbers["weights_sha256"] for numbers in measured.values()]
    assert len(set(digests)) == len(digests)


def test_a_warm_start_of_the_same_schema_copies_a_student_of_two_embeddings(examples, run,
                                                                           tmp_path):
    _, trainer = run
    arrays = {name: variable.numpy()
              for name, variable in trainer.train_step.named_variables().items()}
    fresh = build_trainer(examples, model_of(examples), tmp_path).train_step
    taken = warm_start(fresh, arrays, old_schema=examples.schema, old_row_map=examples.row_map,
                       new_row_map=examples.row_map)
    of_extra = [one.fate for one in taken if one.name.startswith("tower/extra/")]
    assert set(of_extra) == {"copied"}
    assert len(of_extra) > 8
    for name, variable in fresh.named_variables().items():
        if name.startswith(("tower/extra/", "table/extra")) and "_l2" not in name:
            np.testing.assert_array_equal(variable.numpy(), arrays[name])


def test_students_take_rows_and_matrices_along_when_they_leave_the_shared_embedding(
        examples, run, tmp_path):
    model, trainer = run
    named = {name: variable.numpy()
             for name, variable in trainer.train_step.named_variables().items()}
    # As if `own` and `extra` had read the shared embedding, and `s0` one of its own.
    arrays = {name: value for name, value in named.items()
              if not any(part.startswith((f"{one}_", f"table/{one}"))
                         for one in ("own", "extra") for part in (name, name.split("/")[-1]))}
    arrays["table/s0/s0_steps"] = np.array(3)
    fresh = build_trainer(examples, model_of(examples), tmp_path).train_step
    first = {name: variable.numpy() for name, variable in fresh.named_variables().items()}
    fates = {one.name: one.fate for one in warm_start(
        fresh, arrays, old_schema=examples.schema, old_row_map=examples.row_map,
        new_row_map=examples.row_map)}
    now = {name: variable.numpy() for name, variable in fresh.named_variables().items()}
    for one in ("own", "extra"):
        moved = [name for name in now if name.startswith(f"table/{one}")
                 or name.split("/")[-1].startswith(f"{one}_")]
        assert {"city", "cover"} <= {name.split("_")[-2] for name in moved if "/m/" in name}
        for name in moved:
            shared = name.replace(one, "shared") if name.startswith("table/") else (
                name.replace(f"tower/{one}/", "tower/teacher/").replace(f"/{one}_", "/shared_"))
            if shared in arrays:  # not the first-order weights of a student that adds none
                assert fates[name] == "copied", name
                np.testing.assert_array_equal(now[name], arrays[shared], err_msg=name)
    # The blocks of `extra` stood in the order of the schema, and are now in that of its inputs.
    kernel, embedding = "tower/extra/extra/extra_mlp/dense_0/kernel", model.students["extra"]
    before = dict(zip([field.name for field in examples.schema.public.fields],
                      np.split(arrays[kernel], len(examples.schema.public.fields)), strict=True))
    np.testing.assert_array_equal(now[kernel], np.concatenate([
        before[field.name] for one in embedding.embeddings for field in embedding.fields_of(one)]))
    # `s0` knows other vectors than the shared ones.
    of_s0 = [name for name in now if name.startswith("tower/s0/")]
    assert {fates[name] for name in of_s0} == {"initialised"}
    for name in of_s0:
        np.testing.assert_array_equal(now[name], first[name])


def test_fields_of_a_size_of_their_own_keep_their_matrices_when_another_field_goes(
        examples, run, feed, tmp_path):
    _, trainer = run
    arrays = {name: variable.numpy()
              for name, variable in trainer.train_step.named_variables().items()}
    fewer = open_rich(feed, only=[field.name for field in examples.schema.fields
                                  if field.name != "age"])
    fresh = build_trainer(fewer, model_of(fewer), tmp_path).train_step
    taken = {one.name: one.fate for one in warm_start(
        fresh, arrays, old_schema=examples.schema, old_row_map=examples.row_map,
        new_row_map=fewer.row_map)}
    matrices = [name for name in fresh.named_variables()
                if "shared_city_kernel" in name or "shared_cover_kernel" in name]
    assert len(matrices) > 2  # the slots of the optimizer too
    for name in matrices:
        assert taken[name] == "copied"
        np.testing.assert_array_equal(fresh.named_variables()[name].numpy(), arrays[name])
    # What joins fields explicitly means other fields now.
    assert "initialised" in {fate for name, fate in taken.items() if "/teacher/" in name}


def test_an_output_without_hidden_layers_is_not_copied_to_other_fields():
    fields = _Fields(before=["a", "b"], now=["b", "c"], dim=1, of_all=0, of_all_before=[0],
                     embeddings=["shared"])
    name = "tower/light/light/output/kernel"
    variable = tf.Variable([[1.0], [2.0]])
    arrays = {name: np.array([[3.0], [4.0]], np.float32)}
    assert _dense_variable(name, variable, fields, arrays, set()).fate == "initialised"
    np.testing.assert_array_equal(variable, [[1], [2]])
    # Behind hidden layers it reads no fields.
    arrays["tower/light/light_mlp/dense_0/kernel"] = np.zeros((2, 2), np.float32)
    assert _dense_variable(name, variable, fields, arrays, set()).fate == "copied"
    np.testing.assert_array_equal(variable, [[3], [4]])


def test_a_rocket_student_does_not_consolidate_and_is_not_late(examples, tmp_path):
    model = build_model(examples, [ROCKET])
    assert model.students["s0"].consolidation is None
    assert model.students["s0"].moves(model.embedding)
