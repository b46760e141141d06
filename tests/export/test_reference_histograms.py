import numpy as np

from dualdnn.export.student import reference_histograms
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
