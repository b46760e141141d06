import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.errors import DataError, LockError
from dualdnn.export import saved_model
from dualdnn.export.saved_model import publish

ROOT = Path(__file__).parents[2]


def names_in(folder):
    """What a server sees, and what was left behind."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".l"))


def publish_into(folder, graph, sample, **manifest):
    return publish(graph=graph, sample=sample, folder=folder, manifest=manifest)


def test_versions_only_grow_also_after_the_newest_was_deleted(tmp_path, graph, sample):
    assert [publish_into(tmp_path, graph, sample).version for _ in range(2)] == [1, 2]
    shutil.rmtree(tmp_path / "2")
    assert publish_into(tmp_path, graph, sample).version == 3
    # Also next to versions that were copied here, and to folders that are none.
    (tmp_path / "17").mkdir()
    (tmp_path / "99-old").mkdir()
    assert publish_into(tmp_path, graph, sample).version == 18
    assert names_in(tmp_path) == ["1", "17", "18", "3", "99-old"]


@pytest.mark.parametrize("wrong", [1e-3, np.nan, np.inf])
def test_a_model_that_answers_differently_is_not_published(tmp_path, graph, sample, wrong):
    logits = sample.logits.copy()
    logits[5] += wrong
    with pytest.raises(DataError, match=r"exported signature `serving_default` differs from "
                                        r"the model in memory by .*Nothing was published"):
        publish_into(tmp_path, graph, replace(sample, logits=logits))
    assert names_in(tmp_path) == []


def test_raw_features_that_are_read_differently_are_found(tmp_path, graph, sample):
    rows = sample.rows.copy()
    rows[3, 0] = rows[3, 0] % 4 + 1
    with pytest.raises(DataError, match="exported signature `encoded` differs"):
        publish_into(tmp_path, graph, replace(sample, rows=rows))
    assert names_in(tmp_path) == []


def test_a_lock_held_by_another_process_is_named(tmp_path, graph, sample):
    (tmp_path / ".lock").write_text("")
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,os,sys; f=open(sys.argv[1],'r+'); "
         "fcntl.flock(f, fcntl.LOCK_EX); f.write(f'pid {os.getpid()}'); f.flush(); "
         "print('held', flush=True); sys.stdin.read()", str(tmp_path / ".lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockError, match=f"is locked by pid {holder.pid}"):
            publish_into(tmp_path, graph, sample)
        assert names_in(tmp_path) == []
        holder.stdin.close()
    assert publish_into(tmp_path, graph, sample).version == 1


def test_a_full_disk_leaves_no_version(tmp_path, graph, sample, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    publish_into(tmp_path, graph, sample)
    for owner, name in ((tf.saved_model, "save"), (tf.io, "TFRecordWriter"),
                        (saved_model, "sha256_of_file"), (saved_model, "write_json")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(OSError, match="No space left"):
                publish_into(tmp_path, graph, sample)
        assert names_in(tmp_path) == ["1"]
    assert publish_into(tmp_path, graph, sample).version == 2


def test_metrics_that_json_does_not_know_are_refused_before_the_version_appears(
        tmp_path, graph, sample):
    with pytest.raises(ValueError, match="not JSON compliant"):
        publish_into(tmp_path, graph, sample, metrics={"auc": float("nan")})
    assert names_in(tmp_path) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tests.tiny_run import EVERYTHING, SCHEMA, build_model, open_tiny
from dualdnn.data.lake import Lake
from dualdnn.export.saved_model import Sample, publish
from dualdnn.export.serving_graph import raw_features
from dualdnn.training.scoring import Scorer
from pipelines.build import serving_graph

feed, target = map(Path, sys.argv[1:])
examples = open_tiny(feed)
model = build_model(examples, [EVERYTHING])
day = examples.days[0]
sample = Sample(features=raw_features(SCHEMA, Lake(feed / "lake").read(day.day, SCHEMA)),
                rows=examples.rows[:day.rows],
                logits=Scorer(model)(examples.rows[:day.rows], ["s0"])["s0"])
rename = os.rename

def killed_before_the_version_appears(source, target):
    if Path(target).name == "2":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.rename = killed_before_the_version_appears
publish(graph=serving_graph(model, examples, "s0"), sample=sample, folder=target, manifest={})
"""


def test_a_kill_while_publishing_leaves_no_half_version(tmp_path, feed, graph, sample):
    publish_into(tmp_path, graph, sample)
    done = subprocess.run([sys.executable, "-c", _KILLED, str(feed), str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    leftover, *versions = names_in(tmp_path)
    assert versions == ["1"]
    # Complete, but without its name: a server sees no number.
    assert leftover.startswith(".tmp-2-")
    assert (tmp_path / leftover / "manifest.json").exists()
    # The number counts as used, and what was left is cleared away.
    assert publish_into(tmp_path, graph, sample).version == 3
    assert names_in(tmp_path) == ["1", "3"]
