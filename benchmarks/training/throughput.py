"""Training speed of the full model: against the machine's peak, with students, by table size.

python -m benchmarks.training.throughput [peak] [students] [rows]

Every figure is a ratio of medians taken alternately in one run. FLOPs are counted by the plain
formulas of the layers, 2 m n k a product, backward twice the forward; the linear CIN needs fewer
(sums over the embedding move before its products), so a share of peak above what the machine
could do is not a fault: the ReLU CIN, which needs them all, stands beside it.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from benchmarks.quality.in_process import checked_plan
from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.window import Rolling
from dualdnn.schema import MAIN_TABLE, Field, Schema
from dualdnn.training.trainer import Trainer
from pipelines.build import build_model, build_trainer

FIELDS, IDS, DAYS, ROWS_A_DAY = 26, 40_000, 4, 50_000
WARM_UP = 3
FULL = ["teacher.hidden_units=[400,400,400]", "teacher.interactions.cin.layer_sizes=[128,128]",
        "controls=[]"]


def encoded_log(folder: Path) -> Examples:
    """A lake of Zipf-free random ids, encoded and opened as any other log."""
    rng = np.random.default_rng(0)
    names = [f"f{i}" for i in range(FIELDS)]
    for day in range(DAYS):
        part = folder / "lake" / f"dt=2024-01-{day + 1:02d}"
        part.mkdir(parents=True)
        columns = {name: pa.array(rng.integers(0, IDS, ROWS_A_DAY)) for name in names}
        start = 1_704_067_200 + 86_400 * day
        pq.write_table(pa.table({
            **columns, "label": rng.integers(0, 2, ROWS_A_DAY),
            "ts": start + np.arange(ROWS_A_DAY),
        }), part / "part-0.parquet")
        (part / "_SUCCESS").touch()
    schema = Schema(name="speed", label="label", timestamp="ts",
                    fields=tuple(Field(name=name, kind="id") for name in names))
    return open_examples(lake=Lake(folder / "lake"), schema=schema, state=folder / "state",
                         window=Rolling(days=DAYS, holdout_days=0))


def with_rows(examples: Examples, num_rows: int) -> Examples:
    """The same examples on a table of another size, ids spread over all of it."""
    rng = np.random.default_rng(1)
    rows = rng.integers(FIELDS + 1, num_rows, examples.rows.shape, dtype=np.int32)
    row_map = dataclasses.replace(examples.row_map, table_rows={MAIN_TABLE: num_rows})
    return dataclasses.replace(examples, rows=rows, row_map=row_map)


def make_trainer(examples: Examples, overrides: Sequence[str], folder: Path) -> Trainer:
    plan, _ = checked_plan([*overrides, "training.epochs=1000"])
    model = build_model(plan, examples.schema, examples.row_map)
    return build_trainer(plan, model, examples, folder)


def alternate(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each step, taken in turn so that the machine's moods hit all alike."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(WARM_UP + rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= WARM_UP:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def flops_per_example(trainer: Trainer) -> float:
    """Forward and backward by the plain formulas: CIN and every dense kernel."""
    dim, total = trainer.model.embedding.embedding_dim, 0.0
    for layer in trainer.model.teacher.interactions:
        total += sum(2.0 * dim * int(np.prod(w.shape)) for w in layer.trainable_variables)
    networks = [trainer.model.teacher, *(s.network for s in trainer.model.students.values())]
    for network in networks:
        dense = [*network.mlp.dense, network.output_layer]
        total += sum(2.0 * int(np.prod(layer.kernel.shape)) for layer in dense)
    return 3 * total


def peak_share(examples: Examples, folder: Path) -> None:
    a, b = tf.random.normal((8192, 2048)), tf.random.normal((2048, 2048))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, b)[0]))
    batch = ["training.batch_size=4096"]
    trainers = {
        "linear CIN": make_trainer(examples, [*FULL, *batch], folder / "linear"),
        "ReLU CIN": make_trainer(
            examples, [*FULL, *batch, "teacher.interactions.cin.activation=relu"], folder / "relu"),
    }
    seconds = alternate({"matmul": product,
                         **{name: t._one_step for name, t in trainers.items()}}, 15)
    peak = 2 * 8192 * 2048 * 2048 / seconds["matmul"]
    print(f"matmul peak {peak / 1e9:.0f} GFLOP/s")
    for name, trainer in trainers.items():
        flops = flops_per_example(trainer)
        speed = 4096 / seconds[name]
        print(f"{name:11s} {speed:8,.0f} examples/s  {flops / 1e6:.1f} MFLOP an example  "
              f"{flops * speed / peak:.0%} of peak")


def student_cost(examples: Examples, folder: Path) -> None:
    batch = "training.batch_size=4096"
    names = [f"s{i}" for i in range(5)]
    library = folder / "config" / "student"
    library.mkdir(parents=True)
    light = (Path(__file__).resolve().parents[2] / "conf/student/light.yaml").read_text()
    for name in names:
        (library / f"{name}.yaml").write_text(light)
    search = f"hydra.searchpath=[file://{library.parent}]"
    trainers = {
        "full teacher, no student": [*FULL, batch, "students=[]"],
        "full teacher, student": [*FULL, batch],
        "default teacher, one": [batch, "controls=[]", search, "students=[s0]"],
        "default teacher, five": [batch, "controls=[]", search, f"students=[{','.join(names)}]"],
    }
    steps = {name: make_trainer(examples, overrides, folder / f"run{i}")._one_step
             for i, (name, overrides) in enumerate(trainers.items())}
    seconds = alternate(steps, 20)
    for name, value in seconds.items():
        print(f"{name:26s} {4096 / value:10,.0f} examples/s")
    ratio = seconds["full teacher, student"] / seconds["full teacher, no student"]
    print(f"a student adds {ratio - 1:.1%} to the full teacher's step")
    ratio = seconds["default teacher, five"] / seconds["default teacher, one"]
    print(f"five students take {ratio:.2f}x one, default teacher, batch 4096")


def table_growth(examples: Examples, folder: Path) -> None:
    sizes = {"10^6": 10**6, "10^7": 10**7}
    for batch in (512, 4096):
        steps = {
            name: make_trainer(with_rows(examples, rows),
                               [*FULL, f"training.batch_size={batch}"],
                               folder / f"{batch}-{name}")._one_step
            for name, rows in sizes.items()
        }
        seconds = alternate(steps, 60 if batch == 512 else 25)
        print(f"batch {batch:4d}: 10^6 rows {seconds['10^6'] * 1e3:.1f} ms, 10^7 rows "
              f"{seconds['10^7'] * 1e3:.1f} ms a step, {seconds['10^7'] / seconds['10^6']:.2f}x")


def main(wanted: Sequence[str]) -> None:
    parts = {"peak": peak_share, "students": student_cost, "rows": table_growth}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        examples = encoded_log(folder)
        for name, part in parts.items():
            if not wanted or name in wanted:
                part(examples, folder / name)


if __name__ == "__main__":
    main(sys.argv[1:])
