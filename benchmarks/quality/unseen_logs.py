"""Three public logs that no default of conf/ was chosen on, written as lakes.

python -m benchmarks.quality.unseen_logs FOLDER [--movielens ml-latest-small] [--frappe data/frappe]
    [--criteo tests/resources]
python -m pipelines.train --config-dir FOLDER experiment=scheme_comparison data=ml_latest_small
    window=random_fraction window.seed=1 'scheme_comparison.seeds=[1,2,3,4,5,6,7,8,9,10]'

`ml_latest_small`: ratings.csv and movies.csv of GroupLens' release with 100,004 ratings of 671
users; positive from 4 stars. `frappe`: apps used in context (Baltrunas et al. 2015,
arXiv:1505.03014), two sampled negatives a use, the files frappe.validation.libfm and
frappe.test.libfm of the repository hexiangnan/neural_factorization_machine together (86,582 rows;
its larger train file is left out). `criteo_attribution`: 165,152 display impressions, 36% of them
with a click, of Criteo's attribution data, the files small_train.parquet and small_valid.parquet
together, from the history (7620df57) of the repository
criteo-research/ad_click_prediction_from_aggregated_data; five categories, no user.

All are laid over 30 days by their order, that of time for ratings, that of the original file for
Criteo, and a seeded random one for Frappe, which has no times: only `dt` and the windows read that
column.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

_FIRST = int(pd.Timestamp("2024-01-01").timestamp())
_SECONDS = 30 * 86_400
_FRAPPE = {"user_id": "user", "item_id": "item", "daytime": "context", "weekday": "context",
           "isweekend": "context", "homework": "context", "cost": "item", "weather": "context",
           "country": "context", "city": "context"}
_CRITEO = ("cat1", "cat4", "cat6", "cat8", "cat9")


def movielens_rows(folder: Path) -> pd.DataFrame:
    """Ratings with their movies, in the order of time."""
    movies = pd.read_csv(folder / "movies.csv")
    movies["year"] = movies["title"].str.extract(r"\((\d{4})\)\s*$")[0].fillna("unknown")
    movies["genres"] = movies["genres"].str.split("|")
    rows = pd.read_csv(folder / "ratings.csv").merge(
        movies[["movieId", "genres", "year"]], on="movieId", how="left")
    rows = rows.sort_values(["timestamp", "userId", "movieId"], kind="stable", ignore_index=True)
    time = pd.to_datetime(rows["timestamp"], unit="s")
    return pd.DataFrame({
        "user_id": rows["userId"].astype(str), "movie_id": rows["movieId"].astype(str),
        "genres": rows["genres"], "year": rows["year"], "hour": time.dt.hour.astype(str),
        "weekday": time.dt.day_of_week.astype(str), "label": (rows["rating"] >= 4).astype("int32")})


def frappe_rows(folder: Path) -> pd.DataFrame:
    """Both files, shuffled; a value is the number of its one-hot column."""
    lines = [line.split() for part in ("validation", "test")
             for line in (folder / f"frappe.{part}.libfm").read_text().splitlines() if line.strip()]
    rows = pd.DataFrame([[one.split(":")[0] for one in line[1:]] for line in lines],
                        columns=list(_FRAPPE))
    rows["label"] = np.array([float(line[0]) > 0 for line in lines], np.int32)
    order = np.random.default_rng(0).permutation(len(rows))
    return rows.iloc[order].reset_index(drop=True)


def criteo_rows(folder: Path) -> pd.DataFrame:
    """Both files, in the order of the file that they were drawn from."""
    parts = [pd.read_parquet(folder / f"small_{part}.parquet") for part in ("train", "valid")]
    rows = pd.concat([part.reset_index() for part in parts])
    rows = rows.sort_values(rows.columns[0], kind="stable", ignore_index=True)
    return pd.DataFrame({**{name: rows[name].astype(str) for name in _CRITEO},
                         "label": rows["click"].astype("int32")})


def write(name: str, rows: pd.DataFrame, fields: list[dict[str, object]], folder: Path) -> None:
    """`lakes/NAME` and `data/NAME.yaml` below `folder`."""
    lake = folder.resolve() / "lakes" / name
    seconds = _FIRST + np.arange(len(rows)) * (_SECONDS - 1) // len(rows)
    rows = rows.assign(timestamp=seconds.astype(np.int64))
    for day, part in rows.groupby(pd.to_datetime(rows["timestamp"], unit="s").dt.date):
        (lake / f"dt={day}").mkdir(parents=True, exist_ok=True)
        part.to_parquet(lake / f"dt={day}" / "part-0.parquet", index=False)
    schema = {"name": name, "lake": str(lake), "label": "label", "timestamp": "timestamp",
              "group": "user_id" if "user_id" in rows else None, "fields": fields}
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / f"{name}.yaml").write_text(yaml.safe_dump(schema, sort_keys=False))
    print(f"{name}: {len(rows):,} rows, {rows['label'].mean():.1%} positive, in {lake}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where lakes and schemas are written")
    parser.add_argument("--movielens", type=Path, help="with ratings.csv and movies.csv")
    parser.add_argument("--frappe", type=Path, help="with frappe.{validation,test}.libfm")
    parser.add_argument("--criteo", type=Path, help="with small_{train,valid}.parquet")
    given = parser.parse_args()
    if not (given.movielens or given.frappe or given.criteo):
        parser.error("give --movielens, --frappe or --criteo, or several of them")
    if given.movielens:
        write("ml_latest_small", movielens_rows(given.movielens), [
            {"name": "user_id", "kind": "id", "side": "user"},
            {"name": "movie_id", "kind": "id", "side": "item"},
            {"name": "genres", "kind": "ids", "side": "item", "max_length": 6},
            {"name": "year", "kind": "id", "side": "item"},
            {"name": "hour", "kind": "id"}, {"name": "weekday", "kind": "id"}], given.folder)
    if given.frappe:
        write("frappe", frappe_rows(given.frappe),
              [{"name": name, "kind": "id", "side": side} for name, side in _FRAPPE.items()],
              given.folder)
    if given.criteo:
        write("criteo_attribution", criteo_rows(given.criteo),
              [{"name": name, "kind": "id"} for name in _CRITEO], given.folder)


if __name__ == "__main__":
    main()
