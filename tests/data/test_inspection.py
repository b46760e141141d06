"""Small logs with one problem each, and a clean one."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualdnn.data.encoding import encode_days
from dualdnn.data.inspection.inspect_days import inspect_days
from dualdnn.data.inspection.settings import InspectionSettings
from dualdnn.data.lake import Lake
from dualdnn.errors import DataError
from dualdnn.schema import schema_from_dict

FIRST = datetime.date(2024, 1, 1)
DAYS, ROWS = 12, 400
FIELDS = (
    {"name": "user", "kind": "id", "side": "user", "pii": True},
    {"name": "item", "kind": "id", "side": "item"},
    {"name": "tags", "kind": "ids", "side": "item", "max_length": 4},
    {"name": "age", "kind": "number", "side": "user"},
    {"name": "past_mean", "kind": "number", "side": "user", "label_statistic": True},
    {"name": "past_count", "kind": "number", "side": "item"},
)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("DUALDNN_PII_KEY", "0123456789abcdef" * 2)


def clean_log(seed=3, days=DAYS, rows=ROWS):
    """A log whose users and items decide about the label, with honest statistics of the past."""
    rng = np.random.default_rng(seed)
    n = days * rows
    user, item = rng.integers(0, 300, n), rng.zipf(1.4, n) % 200
    taste, appeal = rng.normal(size=300), rng.normal(size=200)
    chance = 1 / (1 + np.exp(1.2 - taste[user] - 0.7 * appeal[item]))
    label = (rng.random(n) < chance).astype(np.int64)
    age = np.where(rng.random(n) < 0.1, np.nan, 30 + 8 * taste[user] + rng.normal(size=n) * 9)
    start = int(datetime.datetime(FIRST.year, FIRST.month, FIRST.day,
                                  tzinfo=datetime.UTC).timestamp())
    day = np.repeat(np.arange(days), rows)
    log = {
        "click": label, "ts": start + day * 86400 + np.tile(np.arange(rows), days) * 86400 // rows,
        "user": np.array([f"person-{u}@x.example" for u in user]),
        "item": np.array([f"i{i}" for i in item]),
        "tags": [[f"t{i % 7}", f"t{i % 5}", f"t{i % 3}"][: i % 4] for i in item],
        "age": age, "past_mean": np.zeros(n), "past_count": np.zeros(n), "day": day,
    }
    for number in range(days):
        today, past = day == number, day < number
        seen = np.bincount(user[past], minlength=300)
        clicks = np.bincount(user[past], weights=label[past], minlength=300)
        log["past_mean"][today] = ((clicks + 1) / (seen + 4))[user[today]]
        log["past_count"][today] = np.bincount(item[past], minlength=200)[item[today]]
    return log


def inspected(folder, log, fields=FIELDS, skip=(), group=None, **settings):
    """The report of a log, by day from FIRST on; `skip` leaves days out."""
    lake = Lake(folder / "lake")
    for number in np.unique(log["day"]):
        rows = np.flatnonzero(log["day"] == number)
        columns = {}
        for name, values in log.items():
            if name == "day":
                continue
            chosen = [values[i] for i in rows]
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                chosen = [None if np.isnan(v) else float(v) for v in chosen]
            columns[name] = pa.array(chosen, pa.list_(pa.string()) if name == "tags" else None)
        path = lake.path / f"dt={FIRST + datetime.timedelta(days=int(number))}"
        if int(number) not in skip:
            path.mkdir(parents=True)
            pq.write_table(pa.table(columns), path / "part.parquet")
    schema = schema_from_dict({"name": "feed", "label": "click", "timestamp": "ts",
                               "group": group, "fields": list(fields)})
    days = encode_days(lake, lake.days(), schema, folder / "state")
    report = inspect_days(days, schema, InspectionSettings(**settings))
    json.dumps(report, allow_nan=False)  # plain values, and none that JSON does not know
    return report


def with_field(name, values, kind="number", log=None, **keys):
    """A log with one more field, and its fields."""
    log = {**(log or clean_log()), name: values}
    return log, (*FIELDS, {"name": name, "kind": kind, **keys})


def kinds(report, severities=("error", "warning")):
    """(kind, field) of the findings of some severities."""
    return {(one["kind"], one.get("field")) for one in report["findings"]
            if one["severity"] in severities}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clean_log_raises_no_alarm(tmp_path, seed):
    report = inspected(tmp_path, clean_log(seed))
    assert kinds(report) == set()
    # A statistic of the past grows: that is told, as a note.
    assert {kind for kind, _ in kinds(report, ("note",))} <= {"slow_drift"}


def test_the_counts_of_a_clean_log(tmp_path):
    log = clean_log()
    report = inspected(tmp_path, log)
    data, days, fields = report["data"], report["days"], report["fields"]
    assert (data["rows"], data["days"], data["first_day"]) == (DAYS * ROWS, DAYS, "2024-01-01")
    assert data["label_rate"] == log["click"].mean()
    assert data["fit_rows"] == 3360
    assert days["rows"] == [ROWS] * DAYS
    assert days["label_rate"][4] == log["click"][log["day"] == 4].mean()
    assert list(fields) == [field["name"] for field in FIELDS]
    assert fields["item"]["distinct"] == len(np.unique(log["item"]))
    age = log["age"]
    assert fields["age"]["missing"] == np.isnan(age).mean()
    assert fields["age"]["number"]["min"] == pytest.approx(np.nanmin(age))
    assert fields["age"]["number"]["quantiles"]["0.5"] == pytest.approx(np.nanmedian(age), abs=0.2)
    lengths = [len(tags) for tags in log["tags"]]
    assert fields["tags"]["lengths"]["rows"] == np.bincount(lengths, minlength=5).tolist()
    assert fields["tags"]["missing"] == lengths.count(0) / len(lengths)


def test_top_values_are_the_most_frequent_with_their_label_rate(tmp_path):
    log = clean_log()
    top = inspected(tmp_path, log, top_values=3)["fields"]["item"]["top_values"]
    counts = np.unique(log["item"], return_counts=True)[1]
    assert [one["count"] for one in top] == sorted(counts.tolist(), reverse=True)[:3]
    for one in top:
        rows = log["item"] == one["value"]
        assert one["count"] == rows.sum()
        assert one["label_rate"] == pytest.approx(log["click"][rows].mean())


def test_unseen_values_by_hand(tmp_path):
    log = {name: values[:5] for name, values in clean_log().items()}
    log |= {"item": np.array(["a", "b", "a", "b", "a"]), "day": np.array([0, 0, 1, 2, 4])}
    fields = inspected(tmp_path, log, oov_days=2)["fields"]
    # Day 1 knows a; day 2 knows b of two days before; day 4 has only day 2, where there is no a.
    assert fields["item"]["by_day"]["oov"] == [None, 0.0, 0.0, 1.0]
    assert fields["item"]["oov"] == pytest.approx(1 / 2)
    assert fields["item"]["oov_has_full_history"]


def of_kind(report, kind, field):
    """The one finding of a kind about a field."""
    (found,) = (one for one in report["findings"]
                if (one["kind"], one.get("field")) == (kind, field))
    return found


@pytest.mark.parametrize("kind", ["id", "number"])
def test_a_copy_of_the_label_is_an_error(tmp_path, kind):
    log = clean_log()
    copy = np.array(["no", "yes"])[log["click"]] if kind == "id" else log["click"] * 2.5
    report = inspected(tmp_path, *with_field("copy", copy, kind, log))
    assert kinds(report) == {("label_copy", "copy")}
    assert "`copy` alone ranks the labels with an AUC of 1.0000" in \
        report["findings"][0]["sentence"]
    assert report["findings"][0]["severity"] == "error"


def test_a_privileged_copy_is_a_warning(tmp_path):
    log = clean_log()
    report = inspected(tmp_path, *with_field("copy", log["click"] * 1.0, log=log, privileged=True))
    found = of_kind(report, "label_copy", "copy")
    assert found["severity"] == "warning"
    assert "students are served without it" in found["advice"]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("kind", ["id", "number"])
def test_a_field_filled_for_one_label_only_is_an_error(tmp_path, label, kind):
    log, rng = clean_log(), np.random.default_rng(1)
    filled = (log["click"] == label) & (rng.random(DAYS * ROWS) < 0.6)
    values = np.where(filled, rng.normal(size=len(filled)), np.nan) if kind == "number" else \
        np.where(filled, "seen", None)
    report = inspected(tmp_path, *with_field("dwell", values, kind, log))
    assert kinds(report) == {("presence_is_label", "dwell")}
    assert f"is filled in {filled.sum():,} rows" in report["findings"][0]["sentence"]
    assert f"in 0 of the {(log['click'] != label).sum():,} rows with `click` = {1 - label}" in \
        report["findings"][0]["sentence"]


def test_a_label_rate_that_depends_on_missing_is_told(tmp_path):
    log, rng = clean_log(), np.random.default_rng(1)
    filled = rng.random(DAYS * ROWS) < np.where(log["click"] == 1, 0.3, 0.7)
    values = np.where(filled, rng.normal(size=len(filled)), np.nan)
    report = inspected(tmp_path, *with_field("late", values, log=log))
    assert kinds(report) == {("presence_follows_label", "late")}
    rate = log["click"][~filled].mean()
    assert f"whose label rate is {rate:.4f}" in report["findings"][0]["sentence"]


def _codes(log, along):
    return np.unique(log[along], return_inverse=True)[1]


def over_the_whole_log(log, along):
    codes = _codes(log, along)
    return (np.bincount(codes, weights=log["click"]) / np.bincount(codes))[codes]


def up_to_the_row(log, along, *, itself):
    codes, found, sums, counts = _codes(log, along), [], {}, {}
    for code, label in zip(codes, log["click"], strict=True):
        earlier = sums.get(code, 0), counts.get(code, 0)
        sums[code], counts[code] = earlier[0] + label, earlier[1] + 1
        total, count = (sums[code], counts[code]) if itself else earlier
        found.append(total / count if count else np.nan)
    return np.array(found)


def up_to_the_day(log, along):
    codes, found = _codes(log, along), np.zeros(len(log["click"]))
    for day in range(DAYS):
        today, past = log["day"] == day, log["day"] <= day
        clicks = np.bincount(codes[past], weights=log["click"][past], minlength=codes.max() + 1)
        seen = np.bincount(codes[past], minlength=codes.max() + 1)
        found[today] = (clicks / np.maximum(seen, 1))[codes[today]]
    return found


def without_the_row(log, along):
    codes = _codes(log, along)
    clicks, seen = np.bincount(codes, weights=log["click"]), np.bincount(codes)
    return (clicks[codes] - log["click"]) / np.maximum(seen[codes] - 1, 1)


def count_of_clicks(log, along):
    codes, found, sums = _codes(log, along), [], {}
    for code, label in zip(codes, log["click"], strict=True):
        sums[code] = sums.get(code, 0) + label
        found.append(float(sums[code]))
    return np.array(found)


FUTURE = {
    "whole_log": over_the_whole_log, "day": up_to_the_day, "leave_one_out": without_the_row,
    "count": count_of_clicks, "row": lambda log, along: up_to_the_row(log, along, itself=True),
}


@pytest.mark.parametrize("along", ["user", "item"])
@pytest.mark.parametrize("statistic", FUTURE)
def test_a_statistic_that_knows_its_own_label_is_an_error(tmp_path, along, statistic):
    log = clean_log()
    values = FUTURE[statistic](log, along)
    report = inspected(tmp_path, *with_field("mean", values, log=log, side=along))
    assert ("knows_its_own_label", "mean") in kinds(report, ("error",))
    assert {field for _, field in kinds(report, ("error",))} == {"mean"}


@pytest.mark.parametrize("along", ["user", "item"])
def test_a_statistic_of_earlier_rows_is_honest(tmp_path, along):
    log = clean_log()
    values = up_to_the_row(log, along, itself=False)
    report = inspected(tmp_path, *with_field("mean", values, log=log, side=along))
    assert kinds(report, ("error",)) == set()


def test_a_number_far_above_the_rest_is_a_warning(tmp_path):
    log, rng = clean_log(), np.random.default_rng(2)
    values = log["click"] + rng.normal(size=DAYS * ROWS) * 0.6
    report = inspected(tmp_path, *with_field("odd", values, log=log))
    assert kinds(report) == {("far_above_the_rest", "odd")}
    assert "the next best, `user`, has 0." in report["findings"][0]["sentence"]


def test_missing_days_are_named(tmp_path):
    report = inspected(tmp_path, clean_log(), skip=(3, 4, 7))
    assert report["data"]["missing_days"] == [["2024-01-04", "2024-01-05"],
                                              ["2024-01-08", "2024-01-08"]]
    assert kinds(report) == {("missing_days", None)}
    assert "3 of the 12 calendar days" in report["findings"][0]["sentence"]


NINTH = FIRST + datetime.timedelta(days=9)


def broken_day(change):
    """A clean log whose day 9 is changed."""
    log = clean_log()
    change(log, np.flatnonzero(log["day"] == 9), np.random.default_rng(0))
    return log


def _hot_item(log, rows, rng):
    log["item"][rows[rng.random(len(rows)) < 0.4]] = "i55"


def _lost_age(log, rows, rng):
    log["age"][rows] = np.nan


def _age_in_months(log, rows, rng):
    log["age"][rows] *= 12


def _no_labels(log, rows, rng):
    log["click"][rows] = 0


def _few_rows(log, rows, rng):
    log["day"][rows[:380]] = 8


@pytest.mark.parametrize(("change", "expected", "words"), [
    (_hot_item, {("drift_of_a_day", "item")}, "`i55` went from"),
    (_lost_age, {("missing_share_jump", "age")}, "is missing in 100.0% of the rows of"),
    (_age_in_months, {("drift_of_a_day", "age")}, "stability index"),
    (_no_labels, {("label_rate_shift", None), ("days_of_one_class", None)}, "after 0.2"),
    (_few_rows, {("rows_of_a_day", None)}, "(20 rows, usual 400)"),
])
def test_a_broken_day_is_named(tmp_path, change, expected, words):
    report = inspected(tmp_path, broken_day(change))
    assert kinds(report) == expected
    for one in report["findings"]:
        if (one["kind"], one.get("field")) in expected:
            assert str(NINTH) in one["sentence"]
    assert any(words in one["sentence"] for one in report["findings"])


def test_rows_without_a_group_are_groups_of_their_own(tmp_path):
    log = broken_day(_age_in_months)
    session = np.array([f"s{i}" for i in range(DAYS * ROWS)], object)
    log["session"] = np.where(np.arange(DAYS * ROWS) % 2, session, None)
    some = inspected(tmp_path / "some", log, group="session")
    # A single group a day would be worth one row, on which no day can be judged.
    assert kinds(some) == {("drift_of_a_day", "age")}
    every = inspected(tmp_path / "every", {**log, "session": session}, group="session")
    assert (some["fields"], some["findings"]) == (every["fields"], every["findings"])


@pytest.mark.parametrize(("column", "values", "kind"), [
    ("age", np.full(DAYS * ROWS, np.nan), "always_missing"),
    ("past_count", np.full(DAYS * ROWS, 3.0), "constant"),
    ("item", np.array([f"row{i}" for i in range(DAYS * ROWS)]), "row_id"),
])
def test_a_field_that_says_nothing_is_a_warning(tmp_path, column, values, kind):
    report = inspected(tmp_path, {**clean_log(), column: values})
    assert kinds(report) == {(kind, column)}


def test_labels_of_one_class_are_an_error(tmp_path):
    report = inspected(tmp_path, {**clean_log(), "click": np.zeros(DAYS * ROWS, np.int64)})
    assert kinds(report) == {("one_class", None)}
    assert all("auc" not in field for field in report["fields"].values())


def test_lists_that_fill_their_length_are_told(tmp_path):
    log = {**clean_log(), "tags": [list("abcde")] * (DAYS * ROWS)}
    found = of_kind(inspected(tmp_path, log), "full_lists", "tags")
    assert found["severity"] == "note"
    assert "100.0% of the lists of `tags` fill max_length=4" in found["sentence"]


def test_a_single_day_is_split_by_its_rows(tmp_path):
    report = inspected(tmp_path, clean_log(days=1, rows=4000))
    assert report["fields"]["user"]["auc"] > 0.6
    assert report["fields"]["user"]["by_day"]["drift"] == [None]


def test_a_handful_of_rows_is_no_mistake(tmp_path):
    report = inspected(tmp_path, clean_log(days=3, rows=4))
    assert report["data"]["rows"] == 12
    assert kinds(report, ("error",)) == set()


def test_values_of_a_pii_field_are_in_no_report(tmp_path):
    log = broken_day(lambda log, rows, rng: log["user"].__setitem__(rows, "person-7@x.example"))
    text = json.dumps(inspected(tmp_path, log))
    assert "person-" not in text
    user = json.loads(text)["fields"]["user"]
    assert "top_values" not in user
    assert user["distinct"] == 300


def test_every_kind_of_field_is_looked_into(tmp_path):
    log = clean_log()
    log |= {"url": log["item"], "history": log["item"], "shape": np.zeros(DAYS * ROWS)}
    columns = {name: list(log[name]) for name in ("history", "shape")}
    log |= {"history": [[one] * 2 for one in columns["history"]],
            "shape": [[one, 1.0] for one in columns["shape"]]}
    fields = (*FIELDS, {"name": "url", "kind": "hash", "buckets": 50, "side": "item"},
              {"name": "history", "kind": "sequence", "of": "item", "max_length": 3},
              {"name": "both", "kind": "id", "cross": ["user", "item"], "pii": True},
              {"name": "shape", "kind": "vector", "size": 2})
    report = inspected(tmp_path, log, fields)
    assert kinds(report) <= {("unseen_values", "both")}
    found = report["fields"]
    assert report["data"]["not_inspected"] == ["shape"]
    assert found["url"]["distinct"] == found["item"]["distinct"] == found["history"]["distinct"]
    assert found["url"]["auc"] == pytest.approx(found["item"]["auc"])
    assert found["history"]["lengths"]["rows"] == [0, 0, DAYS * ROWS, 0]
    assert found["history"]["top_values"][0]["value"] == found["item"]["top_values"][0]["value"]
    assert found["both"]["distinct"] > 300
    assert "top_values" not in found["both"]


def test_no_day_is_refused():
    schema = schema_from_dict({"name": "feed", "label": "click", "timestamp": "ts",
                               "fields": list(FIELDS)})
    with pytest.raises(DataError, match="needs at least one day"):
        inspect_days([], schema, InspectionSettings())


def test_settings_out_of_range_are_all_told():
    wrong = InspectionSettings(days=0, top_values=-1, oov_days=0, drift_days=0, drift_values=1,
                               fit_share=1.0)
    assert len(wrong.mistakes("inspection")) == 6
    assert wrong.mistakes("inspection")[0] == "inspection.days must be >= 1, got 0."
    assert InspectionSettings().mistakes("inspection") == []
