"""Pools of teachers as a user trains them, and a layer of a user's own."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from pipelines import train
from pipelines.entry import start
from tests.pipelines.conftest import make_feed

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
POOL = ["teacher=pool", "teacher.hidden_units=[8,4]", "teacher.gate=learned",
        "teacher.towers.dcn_v2.interactions.cross.projection_dim=2",
        "teacher.towers.xdeepfm.interactions.cin.layer_sizes=[4]",
        "+teacher.towers.dcn_v2.embedding=own", "students=[mini]"]


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    feed = make_feed(tmp_path_factory.mktemp("feed"))
    feed.given = [one for one in feed.given if not one.startswith(("student=", "teacher="))]
    feed.given += ["controls=[]", "training.consolidation_epochs=1", "training.epochs=1"]
    return feed


def folders(feed, job="train"):
    return sorted((feed.folder / "outputs" / job).glob("*/"))


def reported(feed, done, job="train"):
    """Folder and report of the run that has just ended."""
    assert done["code"] == 0, done["said"]
    folder = folders(feed, job)[-1]
    return folder, json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def earlier(forks, feed):
    """A finished run of a teacher alone."""
    return reported(feed, forks.run(feed.folder, "train", *feed.given, "students=[]",
                                      "teacher=small"))


@pytest.fixture(scope="module")
def scores(feed):
    """A file of scores by a model that has learned the first day: users' shares of clicks."""
    table = pq.read_table(feed.folder / "feed").to_pandas()
    table["day"] = pd.to_datetime(table["dt"].astype(str)).dt.date
    table["row"] = table.groupby("day").cumcount()
    table["trained"] = table["day"] == table["day"].min()
    of_user = table[table["trained"]].groupby("user")["click"].mean()
    table["logit"] = 4 * table["user"].map(of_user).fillna(0.5) - 2
    table["label"] = table["click"]
    path = feed.folder / "scores.parquet"
    table[["day", "row", "label", "logit", "trained"]].to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def pooled(forks, feed, earlier, scores):
    done = forks.run(
        feed.folder, "train", *feed.given, *POOL[:-1], "students=[mini,tiny]",
        f"+teacher.towers.earlier.run={earlier[0].relative_to(feed.folder)}",
        f"+teacher.towers.elsewhere.scores={scores.name}",
        "student_overrides.tiny.scheme=two_stage")
    return done, *reported(feed, done)


def test_every_member_is_measured(pooled, earlier):
    done, _, report = pooled
    teacher = report["teacher"]
    assert list(teacher["towers"]) == ["xdeepfm", "dcn_v2", "deepfm", "earlier", "elsewhere"]
    assert sum(one["share"] for one in teacher["towers"].values()) == pytest.approx(1, rel=1e-5)
    # A finished run says of the same test rows what it said before.
    for metric in ("auc", "log_loss", "ece"):
        assert teacher["towers"]["earlier"][metric] == pytest.approx(
            earlier[1]["teacher"][metric], abs=1e-6)
    assert teacher["untimed"] == ["earlier", "elsewhere"]
    assert re.search(r"^ *tower elsewhere +0\.\d", done["out"], re.MULTILINE)
    assert "| teacher.dcn_v2 |" in (pooled[1] / "report.md").read_text()
    assert all("auc" in student for student in report["students"].values())


def test_what_is_exported_knows_of_no_pool(pooled):
    _, _, report = pooled
    manifest = (Path(report["export"]["path"]) / "manifest.json").read_text()
    assert "parity_max_abs" in report["export"]
    variables = Path(report["export"]["path"], "variables", "variables.index").read_bytes()
    assert b"teacher" not in variables
    assert "elsewhere" not in json.dumps(json.loads(manifest)["signatures"])


def test_a_run_keeps_the_scores_and_needs_nobody_later(pooled, forks, feed, earlier, scores):
    _, folder, report = pooled
    hidden = [(path, path.with_name(f"hidden_{path.name}")) for path in (earlier[0], scores)]
    for path, away in hidden:
        path.rename(away)
    try:
        done = forks.run(feed.folder, "evaluate", "--config-dir", "conf", f"run={folder}")
        _, again = reported(feed, done, "evaluate")
    finally:
        for path, away in hidden:
            away.rename(path)
    assert again["teacher"]["towers"] == report["teacher"]["towers"]
    assert again["teacher"]["auc"] == report["teacher"]["auc"]


def test_a_run_that_has_learned_our_test_rows_is_refused(forks, feed, earlier):
    finished = f"+teacher.towers.earlier.run={earlier[0]}"
    done = forks.run(feed.folder, "train", *feed.given, *POOL, finished, "window=random_fraction")
    assert done["code"] == 1
    assert re.search(r"teacher\.towers\.earlier has learned \d+ of the 44 test rows of this run",
                     done["err"])


def test_a_run_of_another_lake_is_refused(forks, feed, earlier):
    shutil.copytree(feed.folder / "feed", feed.folder / "copy")
    done = forks.run(feed.folder, "train", *feed.given, *POOL, "data.lake=copy",
                     f"+teacher.towers.earlier.run={earlier[0]}")
    assert done["code"] == 1
    assert "Give a run of the same lake, or a file of scores." in done["err"]


def test_members_that_are_not_there_are_named_before_data_is_read(forks, feed):
    before = len(folders(feed))
    done = forks.run(feed.folder, "train", *feed.given, *POOL, "seed=-1",
                     "+teacher.towers.earlier.run=nowhere", "+teacher.towers.b.scores=nothing")
    assert done["code"] == 2
    assert len(folders(feed)) == before
    for message in ("seed must be", "teacher.towers.earlier.run must be the folder of a finished "
                    "training run, but", "teacher.towers.b.scores: file"):
        assert message in done["said"]


# mlflow and SQLAlchemy deprecate things of each other's; as errors they would break the store.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_layer_of_the_readme_trains(monkeypatch, feed, timed_here):
    """A file of layers that Python finds, and a YAML in the user's folder of configurations."""
    def block(language, part):
        return next(text for text in re.findall(rf"^```{language}\n(.*?)^```$", README,
                                                re.DOTALL | re.MULTILINE) if part in text)

    code, config = block("python", "class FieldProducts"), block("yaml", "FieldProducts")
    (feed.folder / "my_products.py").write_text(code, encoding="utf-8")
    (feed.folder / "conf" / "teacher" / "products.yaml").write_text(
        config.replace("dualdnn.layers.products", "my_products"), encoding="utf-8")
    monkeypatch.chdir(feed.folder)
    monkeypatch.syspath_prepend(feed.folder)  # as `python -m`, started here, does
    monkeypatch.setattr(sys, "argv", ["train", *feed.given, "teacher=products", "students=[]",
                                      "teacher.hidden_units=[8]"])
    with pytest.raises(SystemExit) as end:
        start("train", train.main)
    assert end.value.code == 0
    report = json.loads((folders(feed)[-1] / "report.json").read_text())
    # 4 fields of 4 floats, 6 pairs: (16 + 1) * 8 of the MLP, 8 + 6 + 1 of the output.
    assert report["teacher"]["params_dense"] == 17 * 8 + 15
    assert np.isfinite(report["teacher"]["auc"])
