import datetime
import xml.etree.ElementTree as ET

import pytest

from dualdnn.evaluation import svg
from dualdnn.evaluation.inspection_page import by_auc, inspection_page
from dualdnn.evaluation.inspection_pictures import calendar_of, days_picture, heat_map, sparkline


def days(count, first=datetime.date(2024, 1, 1)):
    return [str(first + datetime.timedelta(days=i)) for i in range(count)]


def titles(picture):
    return [one.text for one in ET.fromstring(picture).iter("title")]


def field(**changes):
    return {"kind": "id", "side": "item", "pii": False, "distinct": 3, "missing": 0.0,
            "by_day": {"drift": [None], "missing": [0.0], "oov": [None]}, **changes}


def report(**fields):
    return {
        "data": {"name": "a<b", "rows": 10, "days": 1, "first_day": "2024-01-01",
                 "last_day": "2024-01-01", "label": "click", "label_rate": 0.0, "fit_rows": 7},
        "days": {"day": days(1), "rows": [10], "label_rate": [0.0]},
        "inspection": {"oov_days": 30, "drift_days": 30}, "fields": fields, "findings": [],
    }


def test_a_single_day_without_positives_is_a_page():
    page = inspection_page(report(item=field(), user=field(pii=True)))
    assert "Nothing to worry about was found." in page
    assert "a&lt;b: a look before training" in page
    assert "personal: values are not shown" in page
    assert "Drift by field" not in page


def test_findings_are_escaped_and_their_names_are_code():
    finding = {"severity": "error", "kind": "x", "sentence": "`a` & <b>", "advice": "drop `a`"}
    page = inspection_page({**report(), "findings": [finding]})
    assert '<b>error</b> <code>a</code> &amp; &lt;b&gt;</p><p class="quiet">drop <code>a</code>' \
        in page


def test_the_field_that_tells_most_comes_first():
    fields = {"a": field(auc=0.6), "b": field(), "c": field(auc=0.9)}
    assert [name for name, _ in by_auc(fields)] == ["c", "a", "b"]


def test_days_without_a_folder_are_shaded_and_named():
    named = [day for i, day in enumerate(days(5)) if i != 2]
    picture = days_picture({"day": named, "rows": [1, 2, 3, 4], "label_rate": [0.5] * 4}, 0.5)
    assert "2024-01-03: no folder" in titles(picture)
    assert "2024-01-05: 4 rows, label rate 0.5000" in titles(picture)


def test_many_days_share_columns():
    calendar = calendar_of(days(1000))
    assert calendar.length == 5
    assert [len(column) for column in calendar.columns] == [5] * 200
    assert calendar.span(0) == "2024-01-01 to 2024-01-05"
    assert calendar.span(199) == "2026-09-22 to 2026-09-26"
    picture = heat_map(days(1000), {"a": [0.0] * 999 + [1.0]}, cap=1.0, what="drift")
    assert titles(picture)[-1] == "a, 2026-09-22 to 2026-09-26: drift 1"


def test_a_line_has_gaps_where_nothing_is_known():
    picture = ET.fromstring(sparkline([None, 1.0, 2.0, None, 3.0, None], 1.0))
    paths = [one.get("d") for one in picture.iter("path")]
    assert sum(path.count("M") for path in paths) == 2  # the axis and one piece
    assert len(list(picture.iter("circle"))) == 1


@pytest.mark.parametrize(("first", "last", "expected"), [
    ("2024-01-01", "2024-01-01", ["2024-01-01"]),
    ("2024-01-30", "2024-02-02", ["30 Jan", "31 Jan", "01 Feb", "02 Feb"]),
    ("2023-11-15", "2024-03-02", ["Dec 2023", "Jan 2024", "Feb 2024", "Mar 2024"]),
    ("2019-05-01", "2024-03-02", ["2020", "2021", "2022", "2023", "2024"]),
])
def test_dates_on_an_axis(first, last, expected):
    ticks = svg.date_ticks(datetime.date.fromisoformat(first), datetime.date.fromisoformat(last))
    assert [words for _, words in ticks] == expected
    assert all(0 <= place <= 1 for place, _ in ticks)


def test_heat_runs_from_pale_to_dark_and_stops_there():
    assert svg.heat(0.0) == svg.heat(-1.0) == "#f4f5f7"
    assert svg.heat(1.0) == svg.heat(9.0) == "#6e140a"
