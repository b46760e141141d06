"""Hands our encoded rows to a peer in another environment, and takes its logits back.

A request is one JSON file:

    data            npz: PART/FIELD (rows, width) int32 and PART/label (rows,) float32
    parts           train, valid, and test where it may be read
    fields          in order: name, width, is_list, size (ids are below), context (user, item, "")
    embedding_dim, threads, fuxictr (a checkout)
    runs            each: peer, settings, seed, result

and a result one npz: PART (rows,) float64 logits for valid and test, seconds of the processor.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.errors import DataError

_PEER = Path(__file__).with_name("fuxictr_peer.py")
# glibc gives large buffers back after every step otherwise, which takes CIN twice the time.
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000",
           "MALLOC_TOP_PAD_": "268435456"}

Settings = Mapping[str, Any]


def fields_and_ids(examples: Examples) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The fields, and (num_examples, width) int32 ids of each: table rows numbered by field.

    Id 0 is padding, as in FuxiCTR. Two cells of a field have one id exactly where our towers read
    one row: rare, unknown and missing values and the buckets of numbers are as they are for us.

    Raises:
        DataError: the data has what FuxiCTR would read otherwise than we do.
    """
    schema = examples.schema
    if schema.dense_width or examples.weights is not None:
        raise DataError("the peers read ids and buckets alone, but this data set has direct "
                        "numbers, columns of vectors or sample weights. Choose another one.")
    if shared := [field.name for field in schema.fields if field.namespace != field.name]:
        raise DataError(f"the peers keep one table a field, but {', '.join(shared)} use rows of "
                        "others. Choose another data set.")
    contexts = {side: next((field.name for field in schema.fields
                            if field.side == side and field.kind == "id"), None)
                for side in ("user", "item")}
    fields, ids = [], {}
    for field in schema.fields:
        cells = examples.rows[:, schema.cells(field.name)]
        known = np.setdiff1d(cells, [PADDING_ROW])
        ids[field.name] = np.where(cells == PADDING_ROW, 0,
                                   np.searchsorted(known, cells) + 1).astype(np.int32)
        context = next((side for side, name in contexts.items() if name == field.name), "")
        fields.append({"name": field.name, "width": field.width, "is_list": field.is_list,
                       "size": len(known) + 1, "context": context})
    return fields, ids


def write_parts(examples: Examples, ids: Mapping[str, np.ndarray], parts: Sequence[str],
                path: Path) -> None:
    """The rows of these parts; what is not named cannot be read by the peer."""
    columns: dict[str, np.ndarray] = {}
    for part in parts:
        index = getattr(examples.split, part)
        columns[f"{part}/label"] = examples.labels[index]
        columns |= {f"{part}/{name}": of_field[index] for name, of_field in ids.items()}
    np.savez(path, **columns)


def key_of(examples: Examples) -> str:
    """Names rows, split and ids of this data: results of another are never taken for its own."""
    digest = hashlib.sha256(examples.fingerprint.encode())
    for part in ("train", "valid", "test"):
        digest.update(getattr(examples.split, part).tobytes())
    digest.update(examples.rows.tobytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class PeerRunner:
    """Trains peers in their environment, each run once: results stay in `results`.

    Attributes:
        python: of the environment with fuxictr and torch.
        fuxictr: a checkout, for its model zoo.
        examples: the rows.
        results: a folder of this data.
        embedding_dim: floats a field.
        threads: of torch.
    """

    python: str
    fuxictr: Path
    examples: Examples
    results: Path
    embedding_dim: int
    threads: int = 1

    def logits(self, peer: str, settings: Sequence[Settings], seeds: Sequence[int],
               parts: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Logits by part of one peer, for every setting with every seed, seeds innermost.

        Raises:
            RuntimeError: the peer's process failed; its own message went to standard error.
        """
        runs = [{"peer": peer, "settings": dict(one), "seed": seed,
                 "result": str(self._result(peer, one, seed, parts))}
                for one in settings for seed in seeds]
        if missing := [run for run in runs if not Path(run["result"]).exists()]:
            self._train(missing, parts)
        return [{part: np.load(run["result"])[part] for part in parts if part != "train"}
                for run in runs]

    def _result(self, peer: str, settings: Settings, seed: int, parts: Sequence[str]) -> Path:
        text = json.dumps([dict(settings), self.embedding_dim, list(parts)], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        return (self.results / f"{peer}-{name}-seed{seed}.npz").resolve()

    def _train(self, runs: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> None:
        fields, ids = fields_and_ids(self.examples)
        self.results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            data, request = Path(scratch) / "data.npz", Path(scratch) / "request.json"
            write_parts(self.examples, ids, parts, data)
            request.write_text(json.dumps({
                "data": str(data), "parts": list(parts), "fields": fields, "runs": list(runs),
                "embedding_dim": self.embedding_dim, "threads": self.threads,
                "fuxictr": str(self.fuxictr.resolve())}))
            environment = {**os.environ, **_MALLOC, "OMP_NUM_THREADS": str(self.threads)}
            done = subprocess.run([self.python, str(_PEER), str(request)], check=False,
                                  env=environment)
        if done.returncode:
            raise RuntimeError(f"{self.python} {_PEER.name} ended with {done.returncode}. Is "
                               "fuxictr with torch installed there? See `peers --help`.")
