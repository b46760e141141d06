"""Readers and scorers that follow champion.json while another process changes it."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.export.champion import champion_of
from dualdnn.export.promotion import promote, rollback
from dualdnn.export.saved_model import publish
from pipelines.build import serving_graph
from tests.export.conftest import sample_for
from tests.tiny_run import EVERYTHING, build_model, open_tiny

ROOT = Path(__file__).parents[2]


def answers_of(path, features):
    """Logits of one version for raw features."""
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    inputs = {name: tf.constant(values, tf.string if values.dtype == object else tf.float32)
              for name, values in features.items()}
    return served(**inputs)["logit"].numpy()


@pytest.fixture(scope="module")
def published(feed, examples, graph, sample, tmp_path_factory):
    """Two versions with row maps and weights of their own; what each answered at first."""
    folder = tmp_path_factory.mktemp("exported") / "feed"
    # Another training part: other signs, and other rows for those that both know.
    fewer = open_tiny(feed, valid=0.6)
    assert fewer.row_map.num_rows != examples.row_map.num_rows
    model = build_model(fewer, [EVERYTHING], dropout=0.0)
    for table in model.tables(model.towers):
        for column in table.columns():
            column.assign(tf.random.stateless_normal(tf.shape(column), seed=(5, 6)))
    samples = {1: sample, 2: sample_for(feed, fewer, model, "s0")}
    for made, of_version in ((graph, samples[1]), (serving_graph(model, fewer, "s0"), samples[2])):
        publish(graph=made, sample=of_version, folder=folder, manifest={})
    logits = {version: answers_of(folder / str(version), sample.features) for version in (1, 2)}
    assert not np.array_equal(logits[1], logits[2])
    return folder, sample.features, logits


_READER = """
import json, sys, threading
from pathlib import Path

folder, stop = Path(sys.argv[1]), threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
seen, reads, changes, last = set(), 0, 0, None
print("ready", flush=True)
while not stop.is_set():
    champion = json.loads((folder / "champion.json").read_text())
    version = champion["version"]
    manifest = json.loads((folder / str(version) / "manifest.json").read_text())
    assert manifest["version"] == version
    assert (folder / str(version) / "saved_model.pb").is_file()
    assert champion["previous"] == 3 - version or champion["previous"] is None
    config = (folder / "models.config").read_text()
    assert config.count('"stable"') == 1 and config.endswith("}\\n"), config
    reads, changes, last = reads + 1, changes + (version != last), version
    seen.add(version)
print(json.dumps([sorted(seen), reads, changes]))
"""

_SCORER = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf

folder = Path(sys.argv[1])
given = np.load(sys.argv[2], allow_pickle=True)
inputs = {name: tf.constant(given[name], tf.string if given[name].dtype == object else tf.float32)
          for name in given.files}
for line in sys.stdin:
    version = json.loads((folder / "champion.json").read_text())["version"]
    served = tf.saved_model.load(str(folder / str(version))).signatures["serving_default"]
    logits = served(**inputs)["logit"].numpy()
    print(json.dumps([version, logits.tobytes().hex()]), flush=True)
"""


def start(script, *arguments):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def test_a_reader_sees_the_old_or_the_new_version(published, monkeypatch):
    folder, _, _ = published
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of no matter to a reader
    promote(folder, 1, "first")
    with start(_READER, folder) as reader:
        assert reader.stdout.readline() == "ready\n"
        for number in range(300):
            promote(folder, 2 - number % 2, f"change {number}")
            if number % 50 == 49:
                rollback(folder)
        out, err = reader.communicate()
        assert reader.returncode == 0, err
    seen, reads, changes = json.loads(out)
    assert seen == [1, 2]
    assert reads > 100
    assert changes > 20


def test_a_scorer_answers_as_the_version_did_when_it_was_published(published, tmp_path):
    folder, features, logits = published
    np.savez(tmp_path / "features.npz", **features)
    promote(folder, 1, "first")
    answered = []
    with start(_SCORER, folder, tmp_path / "features.npz") as scorer:
        for change in (lambda: promote(folder, 2, "forward"), lambda: rollback(folder),
                       lambda: promote(folder, 2, "again"), lambda: rollback(folder, 1)):
            change()
            print("score", file=scorer.stdin, flush=True)
            version, found = json.loads(scorer.stdout.readline())
            assert version == champion_of(folder).version
            np.testing.assert_array_equal(
                np.frombuffer(bytes.fromhex(found), np.float32), logits[version])
            answered.append(version)
        scorer.communicate()
    assert answered == [2, 1, 2, 1]
