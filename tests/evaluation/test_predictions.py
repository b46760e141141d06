import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import TimeFraction
from dualdnn.errors import DataError
from dualdnn.evaluation.predictions import predictions_of, read_predictions, write_predictions
from tests.rich_feed import KEY, open_rich
from tests.tiny_run import SCHEMA, open_tiny


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feed")
    return folder, open_tiny(folder)


def of_test_part(examples, **logits):
    index = examples.split.test
    rng = np.random.default_rng(0)
    scores = {tower: rng.normal(size=len(index)).astype(np.float32) for tower in ("teacher", "s")}
    return predictions_of(examples, index, {**scores, **logits},
                          {"new_user": np.arange(len(index)) % 3 == 0})


def test_what_is_read_is_what_was_written(feed, tmp_path):
    written = of_test_part(feed[1])
    write_predictions(tmp_path / "predictions.parquet", written)
    read = read_predictions(tmp_path / "predictions.parquet")
    for name in ("days", "rows", "labels", "groups"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    assert read.fingerprint == written.fingerprint
    assert read.weights is None
    for part in ("logits", "slices"):
        assert list(getattr(read, part)) == list(getattr(written, part))
        for name, values in getattr(written, part).items():
            np.testing.assert_array_equal(getattr(read, part)[name], values)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_days_and_rows_lead_back_to_the_lake(feed):
    folder, examples = feed
    predictions = of_test_part(examples)
    for day, row, label in zip(predictions.days, predictions.rows, predictions.labels,
                               strict=True):
        path = folder / "lake" / f"dt={day}" / "part.parquet"
        assert pq.ParquetFile(path).read(columns=["click"])["click"][int(row)].as_py() == label


def test_the_fingerprint_is_of_the_tested_rows_alone(feed, tmp_path):
    folder, examples = feed
    fingerprint = of_test_part(examples).fingerprint
    # Other scores, another training part, fewer fields: the same rows.
    assert of_test_part(examples, s=np.zeros(len(examples.split.test))).fingerprint == fingerprint
    assert of_test_part(open_tiny(folder, valid=0.0)).fingerprint == fingerprint
    fewer = open_examples(lake=Lake(folder / "lake"), schema=SCHEMA.without({"tags"}),
                          window=TimeFraction(train=0.6, valid=0.2, test=0.2),
                          state=tmp_path / "state")
    assert of_test_part(fewer).fingerprint == fingerprint
    # Other rows, rows in another order, other labels.
    index = examples.split.test
    for other in (index[1:], index[::-1]):
        assert predictions_of(examples, other, {}, {}).fingerprint != fingerprint
    flipped = replace(examples, labels=1 - examples.labels)
    assert predictions_of(flipped, index, {}, {}).fingerprint != fingerprint


def test_groups_are_numbers_that_say_nothing_of_users(feed):
    examples = feed[1]
    groups = of_test_part(examples).groups
    signs = examples.groups[examples.split.test]
    assert set(groups) == set(range(len(np.unique(signs))))
    same = groups[:, None] == groups[None, :]
    np.testing.assert_array_equal(same, signs[:, None] == signs[None, :])


def test_sampled_negatives_are_scored_as_served_and_stand_for_others(tmp_path, monkeypatch):
    monkeypatch.setenv("DUALDNN_PII_KEY", KEY)
    examples = open_rich(tmp_path, sampling_rate=0.25)
    index = examples.split.test
    found = predictions_of(examples, index, {"teacher": np.zeros(len(index), np.float32)}, {})
    np.testing.assert_allclose(found.logits["teacher"], np.log(0.25), rtol=1e-6)
    np.testing.assert_array_equal(found.weights, np.where(found.labels == 0, 4.0, 1.0))


@pytest.mark.parametrize("content", [None, b"PAR1", b""])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "predictions.parquet"
    if content is not None:
        path.write_bytes(content)
    advice = "pipelines.evaluate run={}`, and compare the folder that this makes."
    with pytest.raises(DataError, match=r"predictions\.parquet must hold ") as raised:
        read_predictions(path)
    assert str(raised.value).endswith(advice.format(tmp_path))
    # Only a training can be evaluated.
    (tmp_path / "report.json").write_text(json.dumps({"job": "evaluate", "run": "of/a/training"}))
    with pytest.raises(DataError) as raised:
        read_predictions(path)
    assert str(raised.value).endswith(advice.format("of/a/training"))


def test_another_parquet_file_is_refused(feed, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(feed[0] / "lake" / "dt=2024-01-01" / "part.parquet")
