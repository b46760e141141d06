"""Trains FuxiCTR's own models on rows that `peers` wrote; runs in FuxiCTR's environment.

PEERS_PYTHON benchmarks/quality/fuxictr_peer.py REQUEST.json     (see `peer_exchange`)

Needs torch, numpy and fuxictr alone: nothing of dualdnn is imported. Layers, losses, optimizer,
early stopping and fitting are FuxiCTR's; only the batches are ours, because its loader collates
row by row in Python.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything

_SOURCES = {"DNN": "DNN/DNN_torch/src/DNN.py", "xDeepFM": "xDeepFM/src/xDeepFM.py",
            "DCNv2": "DCNv2/src/DCNv2.py", "FinalMLP": "FinalMLP/src/FinalMLP.py"}
_SCORING_BATCH = 8192


class Batches:
    """Batches of a part as FuxiCTR's loaders yield them: tensors by the name of the column."""

    def __init__(self, part: Mapping[str, torch.Tensor], size: int,
                 order: torch.Generator | None = None) -> None:
        """`order` shuffles the rows anew at every pass; without it they stay as they are."""
        self._part, self._size, self._order = part, size, order
        self._rows = len(part["label"])

    def __len__(self) -> int:
        return -(-self._rows // self._size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        index = (torch.arange(self._rows) if self._order is None
                 else torch.randperm(self._rows, generator=self._order))
        for chosen in index.split(self._size):
            yield {name: column[chosen] for name, column in self._part.items()}


def load_part(data: Mapping[str, np.ndarray], part: str,
              fields: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """A field of one value becomes (rows,), a list (rows, width), the label (rows,)."""
    columns = {}
    for field in fields:
        values = torch.from_numpy(data[f"{part}/{field['name']}"]).long()
        columns[field["name"]] = values if field["is_list"] else values[:, 0]
    columns["label"] = torch.from_numpy(data[f"{part}/label"])
    return columns


def feature_map(fields: Sequence[Mapping[str, Any]], embedding_dim: int) -> FeatureMap:
    """What FuxiCTR's preprocessing would say of these columns."""
    made = FeatureMap("peers", data_dir="")
    made.labels, made.default_emb_dim = ["label"], embedding_dim
    made.features = OrderedDict()
    for field in fields:
        made.features[field["name"]] = {"source": "", "vocab_size": field["size"],
                                        "padding_idx": 0, "type": "categorical"}
        if field["is_list"]:
            made.features[field["name"]].update(
                type="sequence", max_len=field["width"],
                feature_encoder="layers.MaskedAveragePooling()")
    made.num_fields = made.get_num_fields()
    return made


def architecture(peer: str, settings: Mapping[str, Any],
                 fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A peer's own names for the same widths and dropout; the rest is as FuxiCTR has it."""
    hidden, dropout = settings["hidden_units"], settings["dropout"]
    if peer == "DNN":
        return {"hidden_units": hidden, "net_dropout": dropout}
    if peer == "xDeepFM":
        return {"dnn_hidden_units": hidden, "net_dropout": dropout,
                "cin_hidden_units": settings["cin_units"]}
    if peer == "DCNv2":
        return {"parallel_dnn_hidden_units": hidden, "net_dropout": dropout,
                "num_cross_layers": settings["cross_layers"]}
    # FinalMLP's gates look at who and at what, as in the paper's own configurations.
    contexts = {f"fs{number}_context": [field["name"] for field in fields if field["context"] == of]
                for number, of in ((1, "user"), (2, "item"))}
    return {"mlp1_hidden_units": hidden, "mlp2_hidden_units": hidden, "mlp1_dropout": dropout,
            "mlp2_dropout": dropout, **contexts}


def model_class(folder: Path, peer: str) -> type:
    """FuxiCTR's class, from a checkout: the package carries the layers but not the model zoo."""
    path = folder / "model_zoo" / _SOURCES[peer]
    spec = importlib.util.spec_from_file_location(f"fuxictr_{peer}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module. Pass a checkout of FuxiCTR.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, peer)


def logits(model: Any, batches: Batches) -> np.ndarray:
    """(rows,) float64: FuxiCTR's models end in a sigmoid of float32, undone here."""
    chance = np.clip(model.predict(batches), 1e-7, 1 - 1e-7)
    return np.log(chance) - np.log1p(-chance)


def fit(run: Mapping[str, Any], request: Mapping[str, Any],
        parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """Train one model to its best weights on the validation part; its logits by part."""
    settings, fields = run["settings"], request["fields"]
    seed_everything(run["seed"])
    order = torch.Generator().manual_seed(run["seed"])
    train = Batches(parts["train"], settings["batch_size"], order)
    valid = Batches(parts["valid"], _SCORING_BATCH)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "peers").mkdir()
        model = model_class(Path(request["fuxictr"]), run["peer"])(
            feature_map(fields, request["embedding_dim"]),
            model_id=run["peer"], gpu=-1, task="binary_classification", optimizer="adam",
            loss="binary_crossentropy", learning_rate=settings["learning_rate"],
            embedding_dim=request["embedding_dim"],
            embedding_regularizer=float(settings["embedding_l2"]), net_regularizer=0.0,
            monitor="logloss", monitor_mode="min", metrics=["logloss", "AUC"],
            early_stop_patience=settings["patience"],
            reduce_lr_on_plateau=settings["reduce_lr_on_plateau"],
            eval_steps=max(1, len(train) // settings["evaluations_per_epoch"]),
            verbose=0, model_root=scratch,
            **architecture(run["peer"], settings, fields))
        model.fit(train, epochs=settings["epochs"], validation_data=valid)
    found = {part: logits(model, Batches(columns, _SCORING_BATCH))
             for part, columns in parts.items() if part != "train"}
    return {**found, "seconds": np.array(time.process_time() - started)}


def main(path: str) -> None:
    request = json.loads(Path(path).read_text())
    torch.set_num_threads(request["threads"])
    data = np.load(request["data"])
    parts = {part: load_part(data, part, request["fields"]) for part in request["parts"]}
    for run in request["runs"]:
        found = fit(run, request, parts)
        # Whole or not at all: a result that is there is never trained again.
        unfinished = Path(run["result"]).with_suffix(".unfinished.npz")
        np.savez(unfinished, **found)
        unfinished.rename(run["result"])
        print(f"{run['peer']} seed {run['seed']}: {found['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
