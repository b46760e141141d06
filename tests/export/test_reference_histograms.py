import numpy as np
import pytest

from dualdnn.export.student import (
    independent_draws,
    reference_histograms,
    summed_histograms,
)
from tests.tiny_run import open_tiny


def test_counts_add_up_and_unseen_values_show(tmp_path):
    examples = open_tiny(tmp_path)
    index = examples.split.test
    probabilities = np.linspace(0, 1, len(index))
    found = reference_histograms(examples, index, probabilities)
    assert found["rows"] == sum(found["probability"]) == len(index)
    assert set(found["fields"]) == {field.name for field in examples.schema.fields}
    for position, field in enumerate(examples.schema.fields):
        rows = examples.rows[index, examples.columns(field.name).start]
        oov = np.mean(rows == examples.row_map.oov_rows[position])
        assert found["fields"][field.name]["oov"] == oov
        if field.kind == "number":
            seen = round((1 - oov) * len(index))
            assert sum(found["fields"][field.name]["buckets"]) == seen


def test_parts_add_up_to_the_whole():
    parts = [{"rows": rows, "probability": [rows, 0], "fields": {
        "user": {"oov": share, "draws": rows / 2}, "age": {"oov": 0.0, "buckets": [1, rows]}}}
        for rows, share in ((10, 0.5), (30, 0.1), (0, None))]
    assert summed_histograms(parts) == {
        "rows": 40, "probability": [40, 0],
        "fields": {"user": {"oov": pytest.approx(0.2), "draws": 20},
                   # Parts of an earlier release: every row counts.
                   "age": {"oov": 0.0, "draws": 40, "buckets": [3, 40]}}}
    assert summed_histograms(parts[2:])["fields"]["user"] == {"oov": None, "draws": 0}


def test_a_share_of_few_users_is_worth_fewer_rows():
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(200), 10)
    # All rows of a user alike: two hundred draws of ten rows each. Any row by itself: two thousand.
    of_users = np.repeat(rng.random(200) < 0.2, 10)
    of_rows = rng.random(2000) < 0.2
    assert independent_draws(of_users, users) == pytest.approx(200)
    assert independent_draws(of_rows, users) == pytest.approx(2000, rel=0.15)
    assert independent_draws(of_rows, np.arange(2000)) == pytest.approx(2000)
    # Nothing seen of how users differ.
    assert independent_draws(np.zeros(2000, bool), users) == 200
    assert independent_draws(np.zeros(0, bool), users[:0]) == 0
