"""Times exported towers against each other on one thread, in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from dualdnn.baselines.gbdt import Trees

BATCH_SIZES = (1, 100, 500)


def measure_latency(
    folders: Mapping[str, Path], inputs: Mapping[str, Mapping[str, np.ndarray]], *, calls: int = 60,
    trees: Mapping[str, Path] | None = None,
) -> dict[str, dict[int, float]]:
    """Median seconds of a call to `encoded`, by tower and batch size.

    The calls alternate between the towers, so that a machine that slows down slows all of them
    down. A process of its own, because TensorFlow fixes its threads when it starts.

    Args:
        folders: SavedModels by tower.
        inputs: by tower, examples to score, repeated as needed: `rows` (n, width) int32 and,
            where its schema has floats, `dense` (n, dense_width) float32. Of a tower on leaves,
            whose cells are the last in a row: `features` (n, columns) float32 of its trees,
            `first_rows` (trees,) int32 of each tree's leaves, and in `rows` the other cells.
        calls: timed calls of each tower at each batch size.
        trees: folders of fitted trees by tower; to find the leaves is part of its call.
    """
    arguments = [f"{name}={folder}" for name, folder in folders.items()]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (root, os.environ.get("PYTHONPATH", "")) if part
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name, arrays in inputs.items():
            np.savez(f"{scratch}/{name}.npz", allow_pickle=False, **arrays)
        done = subprocess.run(
            [sys.executable, "-m", "dualdnn.export.latency", "--calls", str(calls),
             "--inputs", scratch, *arguments, "--trees",
             *(f"{name}={folder}" for name, folder in (trees or {}).items())],
            env=environment, capture_output=True, text=True, check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the latency process failed: {done.stderr.strip()[-2000:]}")
    seconds = json.loads(done.stdout.splitlines()[-1])
    return {name: {int(rows): value for rows, value in of_tower.items()}
            for name, of_tower in seconds.items()}


def _time_alternately(towers: Mapping[str, Callable[[], object]], calls: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in towers}
    for call in range(calls + 5):
        for name, answer in towers.items():
            started = time.perf_counter()
            answer()
            if call >= 5:
                taken[name].append(time.perf_counter() - started)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def _call(signature: tf.types.experimental.ConcreteFunction, inputs: Mapping[str, np.ndarray],
          batch_size: int, trees: Trees | None) -> Callable[[], object]:
    """One call of a tower on a batch."""
    batch = {key: values if key == "first_rows" else values[np.arange(batch_size) % len(values)]
             for key, values in inputs.items()}
    if trees is None:
        given = {key: tf.constant(values) for key, values in batch.items()}
        return lambda: signature(**given)
    features, first_rows, rows = (batch.pop(key) for key in ("features", "first_rows", "rows"))
    floats = {key: tf.constant(values) for key, values in batch.items()}

    def answer() -> object:
        leaves = first_rows + trees.leaves(features, threads=1)
        return signature(rows=tf.constant(np.concatenate([rows, leaves], axis=1)), **floats)

    return answer


def measure_here(
    folders: Mapping[str, Path], inputs: Mapping[str, Mapping[str, np.ndarray]], *, calls: int = 60,
    trees: Mapping[str, Path] | None = None,
) -> dict[str, dict[int, float]]:
    """`measure_latency` in this process, on the threads that it has; trees always take one."""
    # A signature does not keep the model alive that it reads.
    loaded = {name: tf.saved_model.load(str(folder)) for name, folder in folders.items()}
    of_trees = {name: Trees(folder) for name, folder in (trees or {}).items()}
    seconds: dict[str, dict[int, float]] = {name: {} for name in loaded}
    for batch_size in BATCH_SIZES:
        answers = {name: _call(model.signatures["encoded"], inputs[name], batch_size,
                               of_trees.get(name)) for name, model in loaded.items()}
        for name, median in _time_alternately(answers, calls).items():
            seconds[name][batch_size] = median
    return seconds


def _folders(pairs: Sequence[str]) -> dict[str, Path]:
    """Of `NAME=FOLDER` each."""
    return {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in pairs)}


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--inputs", required=True, type=Path)
    parser.add_argument("towers", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--trees", nargs="*", default=[], metavar="NAME=FOLDER")
    given = parser.parse_args(arguments)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    folders = _folders(given.towers)
    inputs = {name: dict(np.load(given.inputs / f"{name}.npz")) for name in folders}
    print(json.dumps(measure_here(folders, inputs, calls=given.calls,
                                  trees=_folders(given.trees))))


if __name__ == "__main__":
    _main()
