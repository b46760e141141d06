import datetime
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.examples import open_examples
from dualdnn.data.finished_scores import keep_scores, kept_scores, read_scores, row_keys
from dualdnn.data.window import TimeFraction
from dualdnn.errors import DataError
from tests.tiny_run import SCHEMA, write_lake


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feed")
    return open_examples(lake=write_lake(folder / "lake"), schema=SCHEMA, state=folder / "state",
                         window=TimeFraction(train=0.6, valid=0.2, test=0.2))


def table_of(examples):
    """A sound file of scores: row after row of the lake; the model has learned the first day."""
    days = [day.day for day in examples.days for _ in range(day.rows)]
    rows = np.concatenate([np.arange(day.rows) for day in examples.days])
    return pd.DataFrame({
        "day": days, "row": rows, "label": examples.labels,
        "logit": np.arange(len(rows), dtype=np.float64) / 7,
        "trained": np.array(days) == datetime.date(2024, 1, 1),
    })


@pytest.fixture
def read(examples, tmp_path):
    """Returns a function: what is read of a table that was written to a file."""

    def read(table):
        table.to_parquet(tmp_path / "scores.parquet", index=False)
        return read_scores(tmp_path / "scores.parquet", examples, "teacher.towers.x")

    return read


def test_rows_are_found_by_day_and_number_in_any_order_among_others(examples, read):
    table = table_of(examples)
    others = table[:110].assign(day=datetime.date(2023, 12, 31), logit=-1.0)
    found = read(pd.concat([table, others]).sample(frac=1, random_state=3))
    np.testing.assert_array_equal(found.logits, table["logit"].astype(np.float32))
    np.testing.assert_array_equal(found.trained, table["trained"])
    assert not found.chosen.any()
    found.check(examples, "teacher.towers.x")


def test_scores_as_served_become_those_of_the_negatives_that_were_kept(examples, tmp_path):
    table = table_of(examples)
    table.to_parquet(tmp_path / "scores.parquet", index=False)
    rates = np.full(len(examples.labels), 0.25, np.float32)
    found = read_scores(tmp_path / "scores.parquet", replace(examples, sampling_rates=rates), "x")
    np.testing.assert_allclose(found.logits, table["logit"] + np.log(4), rtol=1e-6)


def test_a_day_may_be_a_timestamp(examples, read):
    table = table_of(examples)
    found = read(table.assign(day=pd.to_datetime(table["day"])))
    np.testing.assert_array_equal(found.logits, table["logit"].astype(np.float32))


def test_files_that_are_not_of_these_rows_are_refused(examples, read, tmp_path):
    table = table_of(examples)
    with pytest.raises(DataError, match=r"teacher\.towers\.x: .*scores\.parquet lacks 2 of the 440 "
                                        "rows of this run, the first is row 3 of 2024-01-02"):
        read(table.drop([113, 250]))
    with pytest.raises(DataError, match="lacks 440 of the 440 rows"):
        read(table[:0].astype(table.dtypes).assign(day=pd.Series([], dtype="datetime64[ns]")))
    with pytest.raises(DataError, match="holds a row twice"):
        read(pd.concat([table, table[5:6]]))
    wrong = table.copy()
    wrong.loc[[7, 8], "label"] = 1 - wrong.loc[[7, 8], "label"]
    with pytest.raises(DataError, match="has another label for 2 of 440 rows"):
        read(wrong)
    with pytest.raises(DataError, match="must be a parquet file with the columns day, row, label, "
                                        "logit, trained"):
        read(table.drop(columns="trained"))
    with pytest.raises(DataError, match="must be a parquet file with the columns"):
        read(table.assign(day="yesterday"))
    with pytest.raises(DataError, match="must be a parquet file with the columns"):
        read_scores(tmp_path / "missing.parquet", examples, "teacher.towers.x")


def test_null_is_neither_a_logit_nor_a_promise(examples, read):
    table = table_of(examples)
    infinite = read(table.assign(logit=table["logit"].mask(table.index == 4, np.inf)))
    with pytest.raises(DataError, match=r"teacher\.towers\.x: 1 of its logits are not finite"):
        infinite.check(examples, "teacher.towers.x")
    for column in ("logit", "trained"):
        unknown = table[column].astype(object).where(table.index != 4, None)
        with pytest.raises(DataError, match=f"must be a parquet file .*: {column} holds nulls"):
            read(table.assign(**{column: unknown}))


@pytest.mark.parametrize(("column", "part", "message"), [
    ("trained", "test", "has learned 3 of the 88 test rows of this run"),
    ("trained", "valid", "has learned 3 of the 88 validation rows"),
    ("chosen", "test", "has been chosen by 3 of the 88 test rows"),
])
def test_models_that_know_what_they_are_measured_on_are_refused(examples, read, column, part,
                                                                message):
    sound = read(table_of(examples))
    seen = getattr(sound, column).copy()
    seen[getattr(examples.split, part)[:3]] = True
    with pytest.raises(DataError, match=f"teacher.towers.x {message}"):
        replace(sound, **{column: seen}).check(examples, "teacher.towers.x")


def test_a_model_may_be_chosen_by_our_validation_rows(examples, read):
    sound = read(table_of(examples))
    chosen = np.zeros(len(sound.logits), bool)
    chosen[examples.split.valid] = True
    replace(sound, chosen=chosen).check(examples, "teacher.towers.x")


def test_a_key_is_a_day_and_a_number_in_it(examples):
    keys = row_keys(examples, np.array([0, 109, 110, 439]))
    days = [datetime.date.fromordinal(int(key >> 32)) for key in keys]
    assert [day.day for day in days] == [1, 1, 2, 4]
    assert (keys & 0xFFFFFFFF).tolist() == [0, 109, 0, 109]


def test_kept_scores_come_back_for_the_same_examples_only(examples, tmp_path):
    path = tmp_path / "kept.parquet"
    logits = {"a": np.arange(440, dtype=np.float32), "b": np.ones(440, np.float32)}
    keep_scores(path, examples, logits)
    found = kept_scores(path, examples, ["b", "a"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.stack([logits["b"], logits["a"]], axis=1))
    with pytest.raises(DataError, match="must hold the logits of a, c, but cannot be read"):
        kept_scores(path, examples, ["a", "c"])
    with pytest.raises(DataError, match="holds logits of other examples"):
        kept_scores(path, replace(examples, fingerprint="other"), ["a"])
    pq.write_table(pa.table({"a": logits["a"]}), path)
    with pytest.raises(DataError, match="cannot be read"):
        kept_scores(path, examples, ["a"])
