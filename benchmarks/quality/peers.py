"""FuxiCTR's xDeepFM, DCNv2, FinalMLP and DNN beside our teachers and their students.

python -m benchmarks.quality.peers --peers-python .peers/bin/python --fuxictr FuxiCTR
    [--tweetings FOLDER] [--seeds 5] [--teachers xdeepfm dcn] [--state FOLDER]

Needs an environment of its own, since torch is not in our lock, and a checkout of the repository
reczoo/FuxiCTR, since its package has no model zoo:

    python3.11 -m venv .peers
    .peers/bin/pip install fuxictr==2.3.10 torch==2.13.0

All read the same rows (see `peer_exchange`), with one split for all seeds and the same embedding
size. Every peer is tuned as `peer_tuning` says, by log loss and without test rows; ours are the
defaults of conf/. Test rows are handed over once, for the chosen settings. Differences are paired
by user with 95% intervals of the bootstrap crossed with seeds, those of peers and ours drawn
apart; p is Holm's over one table and metric.

Finished runs stay in STATE/peers and are not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import dualdnn
from benchmarks.quality.in_process import best_logits, checked_plan, open_data, train
from benchmarks.quality.peer_exchange import PeerRunner, key_of
from benchmarks.quality.peer_tuning import INNER_SPLITS, PEERS, finalists, inner_split, tuned
from dualdnn.data.examples import Examples
from dualdnn.errors import ConfigError
from dualdnn.evaluation.metrics import auc, log_loss
from dualdnn.evaluation.paired import ComparedRows, holm, paired_difference

_TITLES = {"auc": "AUC", "log_loss": "log loss"}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Logits (seeds, rows) of one system."""

    valid: np.ndarray
    test: np.ndarray


def tuned_peer(runner: PeerRunner, peer: str, inner: Sequence[PeerRunner]) -> Mapping[str, Any]:
    """The finalist of the search with the lowest mean log loss over the inner splits."""
    labels = runner.examples.labels[runner.examples.split.valid]

    def losses_of(settings: Sequence[Mapping[str, Any]]) -> list[float]:
        runs = runner.logits(peer, settings, [1], ["train", "valid"])
        return [log_loss(labels, run["valid"]) for run in runs]

    _, tried = tuned(losses_of)
    last = finalists(tried)
    inner_losses = []
    for number, one in enumerate(inner, start=1):
        measured = one.examples.labels[one.examples.split.test]
        runs = one.logits(peer, last, [number], ["train", "valid", "test"])
        inner_losses.append([log_loss(measured, run["test"]) for run in runs])
    means = np.mean(inner_losses, axis=0)
    best = last[int(np.argmin(means))]
    record = {"peer": peer, "chosen": dict(best),
              "tried": [{"settings": dict(one), "valid_log_loss": loss} for one, loss in tried],
              "finalists": [{"settings": dict(one), "inner_log_loss": float(loss)}
                            for one, loss in zip(last, means, strict=True)]}
    (runner.results / f"{peer}-tuning.json").write_text(json.dumps(record, indent=1))
    return best


def peer_scores(runner: PeerRunner, peer: str, settings: Mapping[str, Any],
                seeds: Sequence[int]) -> Scored:
    """The only place where a peer is given test rows."""
    runs = runner.logits(peer, [settings], seeds, ["train", "valid", "test"])
    return Scored(**{part: np.stack([run[part] for run in runs]) for part in ("valid", "test")})


def state_of_ours(overrides: Sequence[str]) -> str:
    """Names configuration and code: another state of ours is trained anew."""
    _, settings = checked_plan(overrides)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    package = Path(dualdnn.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def our_scores(overrides: Sequence[str], teacher: str, seeds: Sequence[int],
               results: Path) -> dict[str, Scored]:
    """One teacher and its students, by name."""
    towers: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed in seeds:
        run = [*overrides, f"teacher={teacher}", "controls=[]", f"seed={seed}"]
        path = results / f"ours-{teacher}-{state_of_ours(run)}-seed{seed}.npz"
        if not path.exists():
            trainer, examples = train(run)
            found = {f"{part}/{tower}": values for part in ("valid", "test") for tower, values
                     in best_logits(trainer, examples, getattr(examples.split, part)).items()}
            np.savez(path, **found)
        stored = np.load(path)
        for tower in {name.split("/", 1)[1]: None for name in stored}:
            towers.setdefault(tower, []).append(
                {part: stored[f"{part}/{tower}"] for part in ("valid", "test")})
    return {teacher if tower == "teacher" else f"{tower} of {teacher}":
            Scored(**{part: np.stack([run[part] for run in runs]) for part in ("valid", "test")})
            for tower, runs in towers.items()}


def show(name: str, examples: Examples, ours: Mapping[str, Scored],
         peers: Mapping[str, Scored]) -> None:
    """Two markdown tables: each system, and ours less each peer."""
    labels = {part: examples.labels[getattr(examples.split, part)] for part in ("valid", "test")}
    test = examples.split.test
    print(f"\n### {name}: {len(test)} test rows\n\n"
          "| | AUC | log loss | log loss, validation |\n|---|---|---|---|")
    valid_losses = {}
    for system, scored in {**ours, **peers}.items():
        cells = []
        for metric, part in ((auc, "test"), (log_loss, "test"), (log_loss, "valid")):
            values = [metric(labels[part], logits) for logits in getattr(scored, part)]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")
        valid_losses[system] = np.mean([log_loss(labels["valid"], z) for z in scored.valid])
        print(f"| {system} | {' | '.join(cells)} |")
    best = min(peers, key=lambda peer: valid_losses[peer])
    print(f"\nBest peer by validation: {best}.\n\n| ours − peer | "
          + " | ".join(f"{title} | p" for title in _TITLES.values())
          + " |\n|---|---|---|---|---|")
    groups = None if examples.groups is None else examples.groups[test]
    rows = ComparedRows(labels["test"], groups)
    pairs = [(our, peer) for our in ours for peer in peers]
    cells = {pair: [] for pair in pairs}
    for metric in _TITLES:
        measured = {system: rows.measured(scored.test, metric)
                    for system, scored in {**ours, **peers}.items()}
        found = {pair: paired_difference(*(measured[one] for one in pair), same_seeds=False)
                 for pair in pairs}
        p_values = holm({str(pair): estimate.p_value() for pair, estimate in found.items()})
        for pair, estimate in found.items():
            low, high = estimate.interval()
            cells[pair] += [f"{estimate.value:+.4f} [{low:+.4f}, {high:+.4f}]",
                            f"{p_values[str(pair)]:.3f}"]
    for (our, peer), of_pair in cells.items():
        mark = "**" if peer == best else ""
        print(f"| {mark}{our} − {peer}{mark} | {' | '.join(of_pair)} |")
    print(flush=True)


def compare(name: str, overrides: Sequence[str], given: argparse.Namespace) -> None:
    """Tune every peer, then score all on the test part."""
    plan, examples = open_data(overrides)

    def runner_on(rows: Examples) -> PeerRunner:
        results = given.state / "peers" / f"{plan.schema.name}-{key_of(rows)}"
        results.mkdir(parents=True, exist_ok=True)
        return PeerRunner(python=given.peers_python, fuxictr=given.fuxictr, examples=rows,
                          results=results, embedding_dim=plan.embedding.dim,
                          threads=given.threads)

    runner = runner_on(examples)
    times = examples.timestamps if plan.window.follows_time else None
    inner = [runner_on(replace(examples, split=inner_split(examples.split, times, number)))
             for number in range(INNER_SPLITS)]
    chosen = {peer: tuned_peer(runner, peer, inner) for peer in given.peers}
    for peer, settings in chosen.items():
        print(f"{name}, {peer}: {json.dumps(dict(settings))}", flush=True)
    seeds = range(1, given.seeds + 1)
    peers = {peer: peer_scores(runner, peer, settings, seeds) for peer, settings in chosen.items()}
    ours: dict[str, Scored] = {}
    for teacher in given.teachers:
        ours |= our_scores(overrides, teacher, seeds, runner.results)
    show(name, examples, ours, peers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", required=True, help="Python with fuxictr and torch")
    parser.add_argument("--fuxictr", type=Path, required=True, help="a checkout of FuxiCTR")
    parser.add_argument("--tweetings", help="raw MovieTweetings, needed until its lake is built")
    parser.add_argument("--sets", nargs="+", choices=("movielens", "tweetings"),
                        default=["movielens", "tweetings"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--teachers", nargs="+", default=["xdeepfm", "dcn"],
                        help="files under conf/teacher")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--state", type=Path, default=Path("state"),
                        help="where lakes, encoded days and finished runs are kept")
    given = parser.parse_args()
    for path in (given.fuxictr / "model_zoo", Path(given.peers_python)):
        if not path.exists():
            parser.error(f"{path} does not exist. --help says how to make it.")
    state = [f"paths.state={given.state}"]
    if "movielens" in given.sets:
        compare("MovieLens-100K, random_fraction",
                [*state, "window=random_fraction", "window.seed=1"], given)
    if "tweetings" in given.sets:
        raw = [f"data.raw={given.tweetings}"] if given.tweetings else []
        overrides = [*state, "data=movietweetings", "window=time_fraction", *raw]
        try:
            checked_plan(overrides)
        except ConfigError as error:
            print(f"\nMovieTweetings left out: {error}")
        else:
            compare("MovieTweetings, time_fraction", overrides, given)


if __name__ == "__main__":
    main()
