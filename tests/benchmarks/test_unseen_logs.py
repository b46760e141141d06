"""The logs that no default was chosen on become lakes that a training can read."""

import sys

import pandas as pd
import pytest

from benchmarks.quality import unseen_logs
from benchmarks.quality.in_process import open_data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    movielens, frappe = tmp_path / "ml", tmp_path / "apps"
    movielens.mkdir()
    frappe.mkdir()
    (movielens / "movies.csv").write_text(
        "movieId,title,genres\n7,Heat (1995),Action|Crime\n8,Nameless,(no genres listed)\n")
    (movielens / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(
        f"{user},{7 + user % 2},{2 + user % 4},{1_000_000_000 - user}\n" for user in range(90)))
    for part, rows in (("validation", 60), ("test", 30)):
        (frappe / f"frappe.{part}.libfm").write_text("".join(
            f"{1 if row % 3 else -1} "
            + " ".join(f"{10 * field + row % 3}:1" for field in range(10)) + "\n"
            for row in range(rows)))
    criteo = tmp_path / "ads"
    criteo.mkdir()
    for part, rows in (("train", range(0, 90, 2)), ("valid", range(1, 90, 2))):
        pd.DataFrame({**{name: [row % 4 for row in rows] for name in unseen_logs._CRITEO},
                      "click": [int(row < 30) for row in rows]},
                     index=list(rows)).to_parquet(criteo / f"small_{part}.parquet")
    monkeypatch.setattr(sys, "argv", ["unseen_logs", str(tmp_path), "--movielens", str(movielens),
                                      "--frappe", str(frappe), "--criteo", str(criteo)])
    unseen_logs.main()
    return tmp_path


@pytest.mark.parametrize(("name", "positive"), [("ml_latest_small", 44 / 90), ("frappe", 60 / 90),
                                                ("criteo_attribution", 30 / 90)])
def test_the_rows_are_all_there(folder, name, positive):
    _, found = open_data([f"data={name}", "window=random_fraction", f"paths.state={folder}/state",
                          f"hydra.searchpath=[file://{folder}]"])
    assert len(found.labels) == 90
    assert found.labels.mean() == pytest.approx(positive)


def test_impressions_stand_in_the_order_of_their_file(folder):
    _, found = open_data(["data=criteo_attribution", "window=time_fraction",
                          f"paths.state={folder}/state", f"hydra.searchpath=[file://{folder}]"])
    assert found.labels.tolist() == [1] * 30 + [0] * 60
    assert found.groups is None
