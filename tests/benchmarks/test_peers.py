"""What peers of another framework are given, and how they are tuned; none of it needs torch."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.peer_exchange import PeerRunner, fields_and_ids, key_of, write_parts
from benchmarks.quality.peer_tuning import START, STEPS, finalists, inner_split, tuned
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.errors import DataError
from tests.tiny_run import open_tiny

# Stands in for the peer: answers every row with the seed, and logs columns and seeds of each call.
PEER = """#!{python}
import json, sys
import numpy as np
request = json.load(open(sys.argv[2]))
data = np.load(request["data"])
for run in request["runs"]:
    np.savez(run["result"], **{{part: np.full(len(data[part + "/label"]), float(run["seed"]))
                               for part in request["parts"]}})
with open({log!r}, "a") as log:
    log.write(json.dumps([sorted(data), [run["seed"] for run in request["runs"]]]) + "\\n")
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("tiny"))


def test_two_cells_of_a_field_have_one_id_exactly_where_our_towers_read_one_row(examples):
    fields, ids = fields_and_ids(examples)
    assert [field["name"] for field in fields] == [f.name for f in examples.schema.fields]
    for field in fields:
        rows = examples.rows[:, examples.schema.cells(field["name"])].ravel()
        of_field = ids[field["name"]].ravel()
        pairs = set(zip(rows.tolist(), of_field.tolist(), strict=True))
        assert len(pairs) == len(set(rows.tolist())) == len(set(of_field.tolist()))
        assert set(of_field[rows == PADDING_ROW]) <= {0}
        assert (of_field[rows != PADDING_ROW] > 0).all()
        assert of_field.max() == field["size"] - 1
    assert [field["context"] for field in fields] == ["user", "item", "", ""]
    assert [(field["width"], field["is_list"]) for field in fields][2] == (3, True)


def test_a_part_that_is_not_named_is_not_in_the_file(examples, tmp_path):
    _, ids = fields_and_ids(examples)
    write_parts(examples, ids, ["train", "valid"], tmp_path / "data.npz")
    data = np.load(tmp_path / "data.npz")
    assert {name.split("/")[0] for name in data} == {"train", "valid"}
    valid = examples.split.valid
    np.testing.assert_array_equal(data["valid/label"], examples.labels[valid])
    np.testing.assert_array_equal(data["valid/tags"], ids["tags"][valid])


def test_weights_that_a_peer_would_not_read_are_refused(examples):
    weighted = replace(examples, weights=np.ones(len(examples.labels), np.float32))
    with pytest.raises(DataError, match="sample weights"):
        fields_and_ids(weighted)


def test_another_split_has_another_key(examples):
    split = examples.split
    swapped = replace(examples, split=replace(split, valid=split.test, test=split.valid))
    assert key_of(examples) != key_of(swapped)


def test_a_run_is_trained_once_and_by_settings_seed_and_parts(examples, tmp_path):
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(PEER.format(python=sys.executable, log=str(log)))
    python.chmod(0o755)
    runner = PeerRunner(python=str(python), fuxictr=Path("none"), examples=examples,
                        results=tmp_path / "results", embedding_dim=4)
    runner.logits("DNN", [START], [1], ["train", "valid"])
    again = runner.logits("DNN", [START], [1, 2], ["train", "valid"])
    assert [run["valid"][0] for run in again] == [1.0, 2.0]
    assert "test" not in again[0]
    tested = runner.logits("DNN", [START], [1], ["train", "valid", "test"])
    assert len(tested[0]["test"]) == len(examples.split.test)
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [seeds for _, seeds in calls] == [[1], [2], [1]]
    assert ["test/label" in columns for columns, _ in calls] == [False, False, True]


def test_a_peer_that_fails_is_an_error(examples, tmp_path):
    runner = PeerRunner(python="false", fuxictr=Path("none"), examples=examples,
                        results=tmp_path, embedding_dim=4)
    with pytest.raises(RuntimeError, match="ended with 1"):
        runner.logits("DNN", [START], [1], ["train", "valid"])


def test_every_step_of_the_search_starts_from_the_best_so_far():
    def losses_of(settings):
        return [abs(np.log10(one["embedding_l2"]) + 2) + (one["dropout"] - 0.2) ** 2
                + 0.1 * (one["learning_rate"] < 1e-3) for one in settings]

    best, tried = tuned(losses_of)
    assert best == {**START, "embedding_l2": 1e-2, "dropout": 0.2}
    assert len(tried) == 1 + sum(map(len, STEPS))
    assert min(loss for _, loss in tried) == losses_of([best])[0]
    # A change that does not help is not kept: the step after it is without.
    assert tried[-1][0]["learning_rate"] == START["learning_rate"]


@pytest.mark.parametrize("in_order", [False, True])
def test_inner_splits_hold_no_test_row_and_differ(examples, in_order):
    split = examples.split
    times = examples.timestamps if in_order else None
    known = set(np.concatenate([split.train, split.valid]).tolist())
    found = [inner_split(split, times, number) for number in range(3)]
    for inner in found:
        parts = [set(part.tolist()) for part in (inner.train, inner.valid, inner.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert set.union(*parts) <= known
        assert len(inner.valid) == len(inner.test) == len(split.valid)
        if in_order:
            ends = [examples.timestamps[part] for part in (inner.train, inner.valid, inner.test)]
            assert ends[0].max() <= ends[1].min()
            assert ends[1].max() <= ends[2].min()
        else:
            assert set.union(*parts) == known
    assert len({inner.test.tobytes() for inner in found}) == 3


def test_finalists_are_the_best_settings_each_once():
    tried = [({"a": 1}, 0.5), ({"a": 2}, 0.3), ({"a": 2}, 0.3), ({"a": 3}, 0.4)]
    assert finalists(tried, 2) == [{"a": 2}, {"a": 3}]
