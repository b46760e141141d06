"""Two hundred days in a row: does anything grow, and does a model that goes on grow old?

python -m benchmarks.daily.two_hundred_days [--rows 2000] [--days 200] [--state FOLDER]

Replays a simulated feed whose items come and go, day by day as `pipelines.backtest` does, for
three strategies: never retrained but fine-tuned daily, retrained every seventh day, frozen. Rows
of ids that were not seen for 30 days are given away. Ends with 1 where something is not flat: the
share of unseen ids, the rows of the tables, the processor time of a day, the memory, or the AUC of
what goes on learning. Times are medians of the first and the last 50 days; where others use the
machine, only processor time can be compared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.data.encoding import encode_days
from dualdnn.data.window import ChosenDays
from dualdnn.evaluation.backtest_results import DayResult
from dualdnn.evaluation.metrics import auc
from dualdnn.training.strategies import days_read
from pipelines.backtest_plan import BacktestPlan, backtest_plan_from
from pipelines.backtest_replay import Replay
from pipelines.compose import resolved
from pipelines.present import make_console

_CONF = str(Path(__file__).resolve().parents[2] / "conf")
FIRST_DAY, WINDOW, PART = datetime.date(2024, 1, 1), 30, 50
STRATEGIES = ("finetune_only", "finetune_daily", "frozen")
# Ids of these fields come and go.
CHURNING = ("user_id", "item_id", "author_id")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one strategy stood at after a scored day."""

    result: DayResult
    oov_share: float
    table_rows: int
    resident_bytes: int


def resident_bytes() -> int:
    """Memory of this process now; not its peak, which never falls."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Watched(Replay):
    """A replay that notes after every day what might grow."""

    noted: dict[str, list[Standing]]

    def _tell(self, strategy: str, day: datetime.date, result: DayResult) -> None:
        assert self._learner
        row_map = self._learner.row_map
        examples = self._open(ChosenDays(train=(), test=[day]), row_map)
        fields = [field.name for field in examples.schema.fields]
        starts = np.cumsum([0, *(field.width for field in examples.schema.fields)])
        shares = [np.mean(examples.rows[:, starts[i]] == row_map.oov_rows[i])
                  for i in map(fields.index, CHURNING)]
        self.noted.setdefault(strategy, []).append(Standing(
            result=result, oov_share=float(np.mean(shares)), table_rows=row_map.num_rows,
            resident_bytes=resident_bytes()))


def planned(overrides: Sequence[str]) -> BacktestPlan:
    """The plan that `python -m pipelines.backtest OVERRIDES` would run."""
    with initialize_config_dir(_CONF, version_base="1.3"):
        config = compose("backtest", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        settings = resolved(config)
    return backtest_plan_from(settings)


def played(rows: int, days: int, state: Path, scratch: Path) -> Mapping[str, Sequence[Standing]]:
    start = FIRST_DAY + datetime.timedelta(days=WINDOW)
    total = WINDOW + days
    plan = planned([
        "data=simulated_feed", f"data.source.days={total}", f"data.source.rows={rows * total}",
        "data.source.users=2000", "data.source.new_items_a_day=20", f"window.days={WINDOW}",
        "training.batch_size=128", "finetune.batch_size=128", "admission.expire_after_days=30",
        f"strategies={json.dumps(STRATEGIES)}", f"start={start}",
        f"end={start + datetime.timedelta(days=days - 1)}", f"paths.state={state}"])
    assert plan.towers.source
    plan.towers.source.prepare(plan.towers.lake.path)
    schedules = plan.schedules()
    encode_days(plan.towers.lake, sorted(set().union(*map(days_read, schedules.values()))),
                plan.towers.schema, state)
    replay = Watched(plan, scratch, state, make_console())
    replay.noted = {}
    for name, scored in schedules.items():
        replay.play(name, scored)
    return replay.noted


def auc_of(standings: Sequence[Standing]) -> float:
    value = auc(np.concatenate([one.result.labels for one in standings]),
                np.concatenate([one.result.student for one in standings]))
    assert value is not None
    return float(value)


def row_of(standings: Sequence[Standing]) -> dict[str, Any]:
    """The numbers of one strategy."""
    first, last = standings[:PART], standings[-PART:]

    def median(part: Sequence[Standing], what: str) -> float:
        """Seconds of a day; of days of one kind, for a retrain takes many times as long."""
        return float(np.median([getattr(one.result, what) for one in part]))

    return {
        "oov": [float(np.mean([one.oov_share for one in part])) for part in (first, last)],
        "rows": [standings[19].table_rows, standings[-1].table_rows],
        "steps": [median(part, "seconds") for part in (first, last)],
        "cores": [median(part, "core_seconds") for part in (first, last)],
        "memory": [standings[19].resident_bytes, standings[-1].resident_bytes],
        "auc": [auc_of(standings[at:at + PART]) for at in range(0, len(standings), PART)],
    }


def grown(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not flat; a frozen model may well grow old."""
    found = []
    # Not the time that passed, which others on the machine stretch.
    limits = {"oov": (1.15, 0.005), "rows": (1.15, 0), "cores": (1.25, 0.05),
              "memory": (1.1, 30e6)}
    for name, row in rows.items():
        for what, (factor, slack) in limits.items():
            before, after = row[what]
            if after > factor * before + slack and not (name == "frozen" and what == "oov"):
                found.append(f"{what} of {name} grew from {before:g} to {after:g}")
        if name != "frozen":
            for number, value in enumerate(row["auc"]):
                # Days differ; what grows old falls from part to part, as frozen does.
                if value < row["auc"][0] - 0.01:
                    found.append(f"AUC of {name} fell from {row['auc'][0]:.4f} to {value:.4f} in "
                                 f"part {number + 1}")
    return found


def main() -> None:
    """Read the command line, replay, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000, help="a day")
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--state", type=Path, help="keep the lake and the encoded days here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        noted = played(given.rows, given.days, given.state or Path(scratch) / "state",
                       Path(scratch) / "run")
    rows = {name: row_of(standings) for name, standings in noted.items()}
    parts = len(next(iter(rows.values()))["auc"])
    heads = ["unseen ids", "table rows, day 20 to the last", "steps of a day",
             "processor time of a day", "memory, day 20 to the last",
             *(f"AUC {PART * i + 1}-{min(PART * (i + 1), given.days)}" for i in range(parts))]
    print(f"\n| {given.days} days | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name, row in rows.items():
        def ratio(what: str, row: Mapping[str, Any] = row) -> str:
            before, after = row[what]
            return "" if not before else f"{before:.3f} to {after:.3f} s, {after / before:.2f}×"

        cells = [" to ".join(f"{share:.1%}" for share in row["oov"]),
                 " to ".join(f"{value:,}" for value in row["rows"]), ratio("steps"),
                 ratio("cores"), " to ".join(f"{value / 1e6:,.0f}" for value in row["memory"])
                 + " MB", *(f"{value:.4f}" for value in row["auc"])]
        print(f"| {name} | {' | '.join(cells)} |")
    if found := grown(rows):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
