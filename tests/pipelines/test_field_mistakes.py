"""What a run refuses of its fields before data is read."""

import pipelines  # noqa: F401, I001  (first: it selects the Keras API)

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks.quality.in_process import checked_plan
from dualdnn.errors import ConfigError
from dualdnn.schema import schema_from_dict
from pipelines.compose import plain_values
from pipelines.plan import _schema_mistakes
from pipelines.settings import EvaluationSettings

FIELDS = [
    {"name": "user", "kind": "id", "pii": True},
    {"name": "cover", "kind": "vector", "size": 2},
    {"name": "vec", "kind": "vector", "file": "nowhere/v.parquet", "key": "item"},
    {"name": "item", "kind": "id"},
]
SCHEMA = schema_from_dict({"name": "n", "label": "y", "timestamp": "t", "fields": FIELDS})


@pytest.mark.parametrize("slices", [[], ["item"], ["user", "cover"]])
def test_personal_fields_vectors_and_files(monkeypatch, slices):
    monkeypatch.setenv("DUALDNN_PII_KEY", "long enough to be a key")
    found = _schema_mistakes(SCHEMA, EvaluationSettings(slices=slices))
    missing = "field `vec`: file nowhere/v.parquet does not exist. Check the path."
    assert missing in found
    assert len(found) == 1 + 2 * ("user" in slices)
    if "user" in slices:
        assert ("evaluation.slices names `user`, which is pii: its values are in no report. Slice "
                "by another field.") in found


def test_a_missing_key_is_one_of_the_mistakes(monkeypatch):
    monkeypatch.delenv("DUALDNN_PII_KEY", raising=False)
    found = _schema_mistakes(SCHEMA, None)
    assert any("environment variable DUALDNN_PII_KEY, but it is not set" in one for one in found)


def test_a_file_of_vectors_is_resolved_against_the_folder_of_the_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.create({"data": {"lake": "feed", "fields": FIELDS}})
    data = plain_values(config, [])["data"]
    assert data["lake"] == str(tmp_path / "feed")
    assert data["fields"][2]["file"] == str(Path(tmp_path) / "nowhere" / "v.parquet")
    assert "file" not in data["fields"][0]


def test_a_window_that_leaves_nothing_to_a_student_is_refused(tmp_path):
    fields = ("data.fields=[{name: ctr, kind: number, label_statistic: true}, "
              "{name: dwell, kind: number, privileged: true}]")
    with pytest.raises(ConfigError, match="no other field is left that a student may read"):
        checked_plan([fields, "window=random_fraction", f"paths.state={tmp_path}"])
