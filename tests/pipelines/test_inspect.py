"""The job as a user meets it, on a feed of their own."""

import datetime
import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from pipelines.entry import start
from pipelines.inspect import main

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef" * 2
DATA = {
    "name": "my_feed", "lake": "feed", "label": "click", "timestamp": "ts", "group": "user",
    "fields": [
        {"name": "user", "kind": "id", "side": "user", "pii": True},
        {"name": "phones", "kind": "ids", "side": "user", "max_length": 2, "pii": True},
        {"name": "item", "kind": "id", "side": "item"},
        {"name": "tags", "kind": "ids", "side": "item", "max_length": 3},
        {"name": "age", "kind": "number", "side": "user"},
        {"name": "dwell", "kind": "number"},
    ],
}


@pytest.fixture
def feed(tmp_path, monkeypatch):
    """Returns a function that writes `feed/` and `conf/`: six days without the fourth."""
    monkeypatch.setenv("DUALDNN_PII_KEY", KEY)

    def write(**changes):
        rng = np.random.default_rng(5)
        for number in (0, 1, 2, 4, 5, 6):
            day = datetime.date(2024, 3, 1) + datetime.timedelta(days=number)
            begin = int(datetime.datetime(2024, 3, day.day, tzinfo=datetime.UTC).timestamp())
            user, item = rng.integers(0, 60, 200), rng.integers(0, 30, 200)
            label = (rng.random(200) < 0.2 + 0.4 * (user % 2)).astype(np.int64)
            folder = tmp_path / "feed" / f"dt={day}"
            folder.mkdir(parents=True)
            pq.write_table(pa.table({
                "click": label, "ts": begin + np.arange(200),
                "user": [f"ann{u}@home.example" for u in user],
                "phones": [[f"+49-{u}", f"+1-{u}"][: u % 3] for u in user],
                "item": [f"<b>i{i}</b>" for i in item],
                "tags": [["a & b", "c"][: i % 3] for i in item],
                "age": np.where(rng.random(200) < 0.2, np.nan, 20.0 + user),
                "dwell": [float(rng.random()) if one else None for one in label],
            }), folder / "part.parquet")
        path = tmp_path / "conf" / "data" / "my_feed.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump({**DATA, **changes}), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def inspect(monkeypatch, capsys, tmp_path):
    """Returns a function: the job with a command line; its code, stdout and lines of stderr."""
    monkeypatch.chdir(tmp_path)

    def inspect(*arguments):
        monkeypatch.setattr(sys, "argv", ["inspect", "--config-dir", "conf", "data=my_feed",
                                          *arguments])
        with pytest.raises(SystemExit) as exit:
            start("inspect", main)
        said = capsys.readouterr()
        return exit.value.code, said.out, said.err.splitlines()

    return inspect


def runs(folder):
    """(run folder, report) of every inspection, oldest first."""
    found = sorted((folder / "outputs" / "inspect").glob("*/report.json"))
    return [(path.parent, json.loads(path.read_text())) for path in found]


class Page(html.parser.HTMLParser):
    """Collects tags, what is not closed, and links to elsewhere."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.links = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_feed_of_ones_own_from_a_process(feed):
    folder = feed()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.inspect", "--config-dir", "conf", "data=my_feed"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True,
        capture_output=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (0, []), done.stdout
    ((run, report),) = runs(folder)
    out = done.stdout
    assert "my_feed: 1,200 rows on 6 days from 2024-03-01 to 2024-03-07, label rate 0." in out
    assert "error   `dwell` is filled in" in out
    assert "no folder: 2024-03-04." in out
    assert f"report    {run / 'report.html'}" in out
    assert "\x1b" not in out
    assert {path.name for path in run.iterdir()} == {"config.yaml", "report.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == {"conf", "feed", "outputs", "state"}
    assert (report["job"], report["status"]) == ("inspect", "done")
    assert report["command"] == (f"python -m pipelines.inspect --config-dir {folder / 'conf'} "
                                 "data=my_feed")
    assert report["findings"][0]["kind"] == "presence_is_label"
    assert report["data"]["newest_day_complete"] is False


def test_the_page_is_complete_in_itself(feed, inspect):
    folder = feed()
    assert inspect()[0] == 0
    ((run, report),) = runs(folder)
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert "script" not in page.tags
    assert "http" not in text
    # Values of the lake are text here, whatever they look like.
    assert "&lt;b&gt;i1&lt;/b&gt;" in text
    assert "<b>i1</b>" not in text
    assert page.tags.count("svg") >= 8
    for name in report["fields"]:
        assert f"<code>{name}</code>" in text
    for one in report["findings"]:
        assert one["severity"] in text


def test_personal_values_are_in_no_file(feed, inspect):
    folder = feed()
    code, out, err = inspect()
    assert code == 0
    said = [out, "\n".join(err)]
    files = [path for part in ("outputs", "state") for path in (folder / part).rglob("*")
             if path.is_file()]
    assert len(files) > 20
    for personal in ("ann7@", "home.example", "+49-", "+1-1", KEY):
        assert not [text for text in said if personal in text]
        assert not [path for path in files if personal.encode() in path.read_bytes()]
    ((_, report),) = runs(folder)
    assert [name for name, one in report["fields"].items() if "top_values" not in one] == [
        "user", "phones", "age", "dwell"]
    assert report["fields"]["phones"]["lengths"]["rows"][0] > 0


def test_the_newest_days_alone(feed, inspect):
    folder = feed()
    assert inspect("inspection.days=2", "inspection.top_values=1")[0] == 0
    ((_, report),) = runs(folder)
    assert report["days"]["day"] == ["2024-03-06", "2024-03-07"]
    assert len(report["fields"]["item"]["top_values"]) == 1
    assert report["inspection"]["days"] == 2


def test_wrong_settings_are_all_told_before_data_is_read(feed, inspect, monkeypatch):
    folder = feed(label="")
    monkeypatch.delenv("DUALDNN_PII_KEY")
    code, _, err = inspect("inspection.fit_share=1.5", "inspection.oov_days=0", "+seed=3",
                           "tracking.uri=[1]")
    assert code == 2
    for words in ("5 mistakes", "inspection.fit_share must lie between 0 and 1, got 1.5",
                  "inspection.oov_days must be >= 1, got 0", "data.label must be a non-empty",
                  "`seed` is not a setting of this job", "tracking.uri must be text"):
        assert words in err[-1]
    assert not (folder / "outputs").exists()


def test_personal_fields_need_a_key(feed, inspect, monkeypatch):
    folder = feed()
    monkeypatch.delenv("DUALDNN_PII_KEY")
    code, _, err = inspect()
    assert code == 2
    assert "DUALDNN_PII_KEY, but it is not set" in err[-1]
    assert not (folder / "outputs").exists()


def test_data_that_cannot_be_read_is_a_failure_that_is_recorded(feed, inspect):
    folder = feed()
    (folder / "feed" / "dt=2024-03-05" / "part.parquet").write_bytes(b"no parquet")
    code, _, err = inspect()
    assert code == 1
    assert err[-1].startswith(f"error: {folder / 'feed' / 'dt=2024-03-05' / 'part.parquet'}")
    ((_, report),) = runs(folder)
    assert report["status"] == "failed"
    assert report["error"] in err[-1]


def test_an_unknown_setting_is_refused_by_name(feed, inspect):
    feed()
    code, _, err = inspect("inspection.color=red")
    assert code == 2
    assert "color" in err[-1]
