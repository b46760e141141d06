import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import pytest

from dualdnn.export.latency import BATCH_SIZES, measure_latency
from dualdnn.export.saved_model import size_in_bytes, write_saved_model
from dualdnn.models.dual_dnn import TEACHER
from pipelines.build import serving_graph


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


def test_a_folder_that_cannot_be_loaded_is_reported(examples, tmp_path):
    with pytest.raises(RuntimeError, match=r"the latency process failed: [\s\S]*SavedModel"):
        measure_latency({"s0": tmp_path}, {"s0": {"rows": examples.rows[:7]}})


def test_size_is_that_of_all_files(folders, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "inner" / "b").write_bytes(b"678")
    assert size_in_bytes(tmp_path) == 8
    assert size_in_bytes(folders["s0"]) < size_in_bytes(folders[TEACHER])
