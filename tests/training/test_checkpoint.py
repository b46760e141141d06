import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

import dualdnn.training.checkpoint as checkpoint_module
from dualdnn.errors import DataError
from dualdnn.training.checkpoint import read_arrays, read_state, restore, save_checkpoint


def arrays():
    rng = np.random.default_rng(0)
    return {
        "table/shared/0": tf.Variable(rng.normal(size=(50, 3)).astype(np.float32)),
        "steps": tf.Variable(7, dtype=tf.int64),
        "best/teacher/0": rng.normal(size=(5, 2)).astype(np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "best/teacher/1": rng.normal(size=(41, 2)),
    }


@pytest.mark.parametrize(("packed", "shard"), [(2**20, 2**28), (0, 2**28), (0, 64), (100, 100)])
def test_arrays_come_back_bit_identically_packed_whole_or_in_shards(tmp_path, monkeypatch, packed,
                                                                   shard):
    monkeypatch.setattr(checkpoint_module, "_PACKED_BYTES", packed)
    monkeypatch.setattr(checkpoint_module, "_SHARD_BYTES", shard)
    given = arrays()
    save_checkpoint(tmp_path / "step-1", given, {"step": 1, "best": None})
    found = read_arrays(tmp_path / "step-1")
    assert list(found) == list(given)
    for name, value in given.items():
        expected = value.numpy() if isinstance(value, tf.Variable) else value
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype
        assert found[name].shape == tuple(expected.shape)
    assert read_state(tmp_path / "step-1") == {"step": 1, "best": None}
    files = [path for path in (tmp_path / "step-1").glob("*.npy")]
    assert len(files) == {2**20: 0, 0: 4, 100: 14}[packed] or shard == 64
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_restore_assigns_every_variable(tmp_path):
    given = arrays()
    save_checkpoint(tmp_path / "step-1", given, {})
    fresh = {name: tf.Variable(tf.zeros_like(value)) for name, value in given.items()
             if isinstance(value, tf.Variable)}
    restore(fresh, read_arrays(tmp_path / "step-1"), tmp_path)
    for name, variable in fresh.items():
        np.testing.assert_array_equal(variable, given[name])


def test_restore_changes_nothing_where_one_variable_does_not_fit(tmp_path):
    first, second = tf.Variable([1.0]), tf.Variable([1.0, 2.0])
    with pytest.raises(DataError, match=r"ckpt: `b` has shape \(3,\), expected \(2,\): it belongs"):
        restore({"a": first, "b": second}, {"a": np.zeros(1), "b": np.zeros(3)}, "ckpt")
    with pytest.raises(DataError, match="ckpt lacks `b`: it belongs to another configuration"):
        restore({"a": first, "b": second}, {"a": np.zeros(1)}, "ckpt")
    np.testing.assert_array_equal(first, [1.0])


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "no packed array", "not json"])
def test_a_damaged_checkpoint_is_named(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(checkpoint_module, "_PACKED_BYTES", 300)
    folder = tmp_path / "step-1"
    save_checkpoint(folder, arrays(), {"step": 1})
    shard = min(folder.glob("*.npy"))
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-9])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "no packed array":
        np.savez(folder / "packed.npz", steps=np.array(7))
    else:
        (folder / "arrays.json").write_text("{")
    with pytest.raises(DataError, match="step-1 is not a readable checkpoint"):
        read_arrays(folder)


def test_a_damaged_pack_and_a_folder_that_is_no_checkpoint_are_named(tmp_path):
    folder = tmp_path / "step-1"
    save_checkpoint(folder, arrays(), {"step": 1})
    whole = (folder / "packed.npz").read_bytes()
    for damaged in (whole[:40], b"", bytes(reversed(whole))):
        (folder / "packed.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="step-1 is not a readable checkpoint"):
            read_arrays(folder)
    for read in (read_state, read_arrays):
        with pytest.raises(DataError, match="is not a readable checkpoint"):
            read(tmp_path)


def test_a_failure_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "step-1", arrays(), {"not": object()})
    assert list(tmp_path.iterdir()) == []
