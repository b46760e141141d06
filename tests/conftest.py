"""Shared fixtures: lakes small enough to be checked by eye."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from dualdnn.data.lake import Lake
from dualdnn.schema import schema_from_dict

# The same examples in every run.
settings.register_profile("dualdnn", derandomize=True, database=None)
settings.load_profile("dualdnn")


@pytest.fixture
def lake(tmp_path):
    """A lake without days yet; `write_day` fills it."""
    return Lake(tmp_path / "lake")


@pytest.fixture
def sound_columns():
    """Returns a function: the columns of a sound day of four rows, some of them replaced.

    A column given as None is left out.
    """

    def columns(**changes):
        sound = {
            "click": pa.array([0, 1, 1, 0]),
            "ts": pa.array([1_704_067_200, 1_704_067_201, 1_704_067_202, 1_704_067_203]),
            "user": pa.array(["ann", "bob", "ann", "cy"]),
            "tags": pa.array([["x", "y"], ["x"], [], ["z"]], pa.list_(pa.string())),
            "age": pa.array([20.0, 30.0, None, 40.0]),
            "weight": pa.array([1.0, 0.5, 2.0, 0.0]),
            **changes,
        }
        return {name: values for name, values in sound.items() if values is not None}

    return columns


@pytest.fixture
def write_day(lake, sound_columns):
    """Returns a function that writes one parquet file of a day and returns its path."""

    def write(day="2024-01-01", columns=None, name="part-0.parquet", success=False):
        folder = lake.path / f"dt={day}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(sound_columns() if columns is None else columns), folder / name)
        if success:
            (folder / "_SUCCESS").touch()
        return folder / name

    return write


@pytest.fixture
def schema_values():
    """The schema of `sound_columns` as plain values."""
    return {
        "name": "feed", "label": "click", "timestamp": "ts", "group": "user", "weight": "weight",
        "fields": [
            {"name": "user", "kind": "id", "side": "user"},
            {"name": "tags", "kind": "ids", "side": "item", "max_length": 2},
            {"name": "age", "kind": "number", "side": "user", "buckets": 2},
        ],
    }


@pytest.fixture
def schema(schema_values):
    """The schema of `sound_columns`."""
    return schema_from_dict(schema_values)


@pytest.fixture
def day():
    """The day that `write_day` writes by default."""
    return datetime.date(2024, 1, 1)
