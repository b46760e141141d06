import numpy as np
import pytest

from dualdnn.export.student import reference_histograms, summed_histograms
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
        "user": {"oov": share}, "age": {"oov": 0.0, "buckets": [1, rows]}}}
        for rows, share in ((10, 0.5), (30, 0.1), (0, None))]
    assert summed_histograms(parts) == {
        "rows": 40, "probability": [40, 0],
        "fields": {"user": {"oov": pytest.approx(0.2)}, "age": {"oov": 0.0, "buckets": [3, 40]}}}
    assert summed_histograms(parts[2:])["fields"]["user"] == {"oov": None}
