import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.baselines.gbdt import GbdtSettings, fit_trees, with_leaves
from dualdnn.baselines.tree_features import TreeFeatures
from dualdnn.export.latency import BATCH_SIZES, _call, measure_latency
from dualdnn.export.saved_model import size_in_bytes, write_saved_model
from dualdnn.models.dual_dnn import TEACHER
from pipelines.build import serving_graph
from tests.tiny_run import build_model


@pytest.fixture(scope="module")
def folders(model, examples, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("timing")
    for tower in (TEACHER, "s0"):
        write_saved_model(serving_graph(model, examples, tower), scratch / tower)
    return {tower: scratch / tower for tower in (TEACHER, "s0")}


def test_every_tower_is_timed_at_every_batch_size(folders, examples):
    # Seven rows are repeated up to the batch.
    seconds = measure_latency(folders, {tower: {"rows": examples.rows[:7]} for tower in folders},
                              calls=3)
    assert list(seconds) == [TEACHER, "s0"]
    for of_tower in seconds.values():
        assert tuple(of_tower) == BATCH_SIZES
        assert all(0 < value < 10 for value in of_tower.values())


def test_to_find_the_leaves_is_part_of_a_towers_time(examples, tmp_path):
    settings = GbdtSettings(trees=300, leaves=6, learning_rate=0.1, least_share=0.0, patience=300,
                            most_categories=8, threads=1)
    features = TreeFeatures(examples, settings.most_categories)
    trees = fit_trees(examples, features, settings, seed=1, folder=tmp_path / "trees")
    leafed = with_leaves(examples, trees, features, tmp_path)
    model = build_model(leafed, [])
    write_saved_model(serving_graph(model, leafed, TEACHER), tmp_path / "graph")
    index, width = np.arange(7), examples.schema.width
    given = {
        "graph": {"rows": leafed.rows[index]},
        "on_leaves": {"rows": leafed.rows[index, :width], "features": features.matrix(index),
                      "first_rows": leafed.row_map.bucket_rows[-trees.count:]},
    }
    answers = {name: _call(tf.saved_model.load(str(tmp_path / "graph")).signatures["encoded"],
                           inputs, 9, trees if name == "on_leaves" else None)()["logit"].numpy()
               for name, inputs in given.items()}
    np.testing.assert_array_equal(answers["on_leaves"], answers["graph"])
    seconds = measure_latency(dict.fromkeys(given, tmp_path / "graph"), given, calls=5,
                              trees={"on_leaves": trees.folder})
    assert all(seconds["on_leaves"][rows] > seconds["graph"][rows] for rows in BATCH_SIZES)


def test_a_folder_that_cannot_be_loaded_is_reported(examples, tmp_path):
    with pytest.raises(RuntimeError, match=r"the latency process failed: [\s\S]*SavedModel"):
        measure_latency({"s0": tmp_path}, {"s0": {"rows": examples.rows[:7]}})


def test_size_is_that_of_all_files(folders, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "inner" / "b").write_bytes(b"678")
    assert size_in_bytes(tmp_path) == 8
    assert size_in_bytes(folders["s0"]) < size_in_bytes(folders[TEACHER])
