"""Baselines beside the towers: their formulas, one run with all of them, kills, mistakes."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hydra import initialize_config_dir

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.baselines.gbdt import fit_trees
from dualdnn.baselines.tree_features import TreeFeatures
from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.predictions import read_predictions
from dualdnn.training.scoring import Scorer
from pipelines.build import baseline_network
from pipelines.compose import composed, resolved
from pipelines.gbdt import _of_trees
from pipelines.plan import plan_from
from tests.pipelines.conftest import make_feed
from tests.tiny_run import open_tiny

CONF = str(Path(__file__).resolve().parents[2] / "conf")
NAMES = ["logistic_regression", "fm", "wide_and_deep", "deepfm", "dnn", "gbdt_fm_dnn"]
TREES = [f"baseline_overrides.gbdt_fm_dnn.gbdt.{one}"
         for one in ("trees=6", "leaves=4", "most_categories=25")]


def planned(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        mistakes = []
        settings = resolved(composed("train", list(overrides)), mistakes)
    return plan_from(settings, mistakes)


# --- the formulas ---


@pytest.fixture(scope="module")
def networks():
    """The networks of the files under baseline_model/ with random weights, by name."""
    plan = planned("experiment=baselines", "teacher.hidden_units=[6,4]")
    made = {}
    for baseline in plan.baselines:
        network = baseline_network(baseline, seed=1)
        network(*batch(), tf.constant(0, tf.int64))
        for number, variable in enumerate(network.trainable_variables):
            variable.assign(tf.random.stateless_normal(variable.shape, (number, 7)))
        made[baseline.name] = baseline, network
    return made


def batch(rows=5, fields=4, dim=3):
    rng = np.random.default_rng(3)
    return (tf.constant(rng.normal(size=(rows, fields, dim)).astype(np.float32)),
            tf.constant(rng.normal(size=(rows, fields, 1)).astype(np.float32)))


def products(vectors):
    """sum over pairs of fields of their element-wise products, (rows, dim)."""
    return sum(vectors[:, i] * vectors[:, j]
               for i, j in itertools.combinations(range(vectors.shape[1]), 2))


def mlp(network, value):
    """The MLP and the output layer, in numpy."""
    for layer in network.mlp.dense:
        kernel, bias = (one.numpy() for one in layer.weights)
        value = np.maximum(value @ kernel + bias, 0)
    kernel, bias = (one.numpy() for one in network.output_layer.weights)
    return value @ kernel[:, 0] + bias[0]


FORMULAS = {
    "logistic_regression": lambda net, v, w: net.bias.numpy()[0] + w,
    "fm": lambda net, v, w: net.bias.numpy()[0] + w + products(v).sum(axis=1),
    "wide_and_deep": lambda net, v, w: w + mlp(net, v.reshape(len(v), -1)),
    "deepfm": lambda net, v, w: (w + products(v).sum(axis=1)
                                 + mlp(net, v.reshape(len(v), -1))),
    "dnn": lambda net, v, w: mlp(net, v.reshape(len(v), -1)),
    "gbdt_fm_dnn": lambda net, v, w: w + mlp(
        net, np.concatenate([products(v), v.reshape(len(v), -1)], axis=1)),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_is_the_formula_of_its_paper(networks, name):
    baseline, network = networks[name]
    vectors, weights = batch()
    linear = weights if baseline.network.linear else None
    found = network(vectors, linear, tf.constant(0, tf.int64)).logits
    expected = FORMULAS[name](network, vectors.numpy(), weights.numpy().sum(axis=(1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert baseline.network.linear == (name != "dnn")


@pytest.mark.parametrize(("deep", "reads"), [
    ("fields", ["flat"]), ("interactions", ["pairs"]), ("both", ["pairs", "flat"])])
def test_the_mlp_reads_what_deep_says(deep, reads):
    plan = planned("baselines=[gbdt_fm_dnn]", f"++baseline_overrides.gbdt_fm_dnn.deep={deep}",
                   "++baseline_overrides.gbdt_fm_dnn.hidden_units=[4]")
    network = baseline_network(plan.baselines[0], seed=1)
    vectors, weights = batch()
    network(vectors, weights, tf.constant(0, tf.int64))
    size = {"flat": 12, "pairs": 3}
    assert network.mlp.dense[0].kernel.shape == (sum(size[one] for one in reads), 4)


# --- one run with all of them ---


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    made = make_feed(tmp_path_factory.mktemp("baselines"))
    made.given += ["controls=[]"]
    return made


def run(forks, feed, *overrides, job="train", folder="outputs", code=0, **order):
    """A job on the feed, in a fork; its newest run folder and report."""
    given = [one for one in feed.given if one != "student=mini" or "students=[]" not in overrides]
    given = given if job == "train" else []
    done = forks.run(feed.folder, job, *given, *overrides, f"paths.outputs={folder}", **order)
    assert done["code"] == code, done["said"]
    found = sorted((feed.folder / folder / job).glob("*/report.json"))
    return done, found[-1].parent if found else None, (
        json.loads(found[-1].read_text()) if found else {})


@pytest.fixture(scope="module")
def trained(forks, feed):
    done, folder, report = run(forks, feed, "experiment=baselines", "teacher=small",
                               "training.averaging=false", *TREES)
    return done, folder, report


def test_every_baseline_is_in_report_table_page_and_predictions(trained):
    done, folder, report = trained
    assert done["err"] == ""
    assert list(report["baselines"]) == NAMES
    predictions = read_predictions(folder / "predictions.parquet")
    page = (folder / "report.md").read_text()
    for name in NAMES:
        numbers = report["baselines"][name]
        assert set(numbers) >= {"auc", "log_loss", "grouped_auc", "normalized_entropy",
                                "calibration", "ece", "params_dense", "params_embedding",
                                "weights_sha256", "latency_ratio", "latency_ratio_at",
                                "bytes_dense", "bytes_total", "slices"}, name
        assert numbers["auc"] == pytest.approx(auc(predictions.labels,
                                                   predictions.logits[f"baseline.{name}"]))
        assert re.search(rf"^ *baseline {name} +0\.\d", done["out"], re.MULTILINE), name
        assert f"| baseline: {name} | 0." in page
        assert report["progress"][f"baseline.{name}"]["best_step"] > 0
    assert "## Baselines" in page
    assert report["towers"] == ["teacher", "mini", *(f"baseline.{name}" for name in NAMES)]
    assert "gbdt_fm_dnn: 6 trees, then the network on their leaves" in done["out"]
    about = report["baselines"]["gbdt_fm_dnn"]["gbdt"]
    assert about["trees"] == 6
    # Of 20 users and 30 items.
    assert about["categories"] == ["user"]
    assert "| 6 of at most 4 leaves, grown in " in page


def test_the_published_range_stands_beside_ours(trained):
    done, folder, report = trained
    ours = f"{report['baselines']['gbdt_fm_dnn']['latency_ratio']:.1f}x"
    assert re.search(rf"xDeepFM latency / GBDT\+FM\+DNN latency, 500 rows +2\.5x to 3\.5x +{ours}",
                     done["out"])
    assert (f"| xDeepFM latency / GBDT+FM+DNN latency, 500 rows | 2.5x to 3.5x | {ours} |"
            in (folder / "report.md").read_text())


def test_curves_are_kept_in_files_and_in_mlflow(trained):
    _, folder, report = trained
    for name in ("baseline.fm", "baseline.gbdt_fm_dnn"):
        assert list((folder / "tensorboard" / name).glob("events.*"))
    from mlflow import MlflowClient
    client = MlflowClient(tracking_uri=report["tracking_uri"])
    logged = client.get_run(report["mlflow_run"]).data.metrics
    for name in NAMES:
        assert logged[f"baseline.{name}/test/auc"] == report["baselines"][name]["auc"]
        assert f"baseline.{name}/valid/log_loss" in logged


def test_sizes_are_those_of_what_is_read(trained):
    baselines = trained[2]["baselines"]
    # 64 table rows, dim 4, one first-order weight a row; 4 fields, an MLP of 8 and 4.
    assert (baselines["logistic_regression"]["params_dense"],
            baselines["logistic_regression"]["params_embedding"]) == (1, 64)
    assert (baselines["fm"]["params_dense"], baselines["fm"]["params_embedding"]) == (1, 64 * 5)
    of_mlp = 16 * 8 + 8 + 8 * 4 + 4 + 4 + 1
    assert baselines["deepfm"]["params_dense"] == of_mlp
    assert baselines["dnn"]["params_embedding"] == 64 * 4
    # Leaves: a row for unknown and 4 leaves for each of 6 trees; 10 fields and the FM's vector.
    assert baselines["gbdt_fm_dnn"]["params_embedding"] == (64 + 6 * 5) * 5
    assert baselines["gbdt_fm_dnn"]["params_dense"] == of_mlp + (6 * 4 + 4) * 8


def test_evaluate_measures_the_same(trained, forks, feed):
    _, folder, report = trained
    _, _, again = run(forks, feed, f"run={folder}", "evaluation.slices=[item]", job="evaluate")
    for name in NAMES:
        for key in ("auc", "log_loss", "weights_sha256"):
            assert again["baselines"][name][key] == report["baselines"][name][key], name
        assert any(one.startswith("item=") for one in again["baselines"][name]["slices"])


def test_compare_sets_teacher_and_student_against_baselines(trained, forks, feed):
    _, folder, _ = trained
    done, _, report = run(forks, feed, f"runs=[{folder}]", "comparison.resamples=100",
                          "comparison.names=[A]", job="compare")
    pairs = [(row["tower"], row["to_tower"]) for row in report["comparison"]["inside"]]
    assert pairs == [*(("teacher", f"baseline.{name}") for name in NAMES), ("mini", "teacher"),
                     *(("mini", f"baseline.{name}") for name in NAMES)]
    assert "A: mini − baseline.gbdt_fm_dnn" in done["out"]
    assert "baseline." not in " ".join(row["to_tower"] for row in report["comparison"]["slices"])


# --- kills and other accidents ---


@pytest.mark.prove
def test_a_killed_run_ends_as_if_it_had_not_been_killed(trained, forks, feed):
    """Killed at writes of the trees and of the checkpoints on their leaves.

    It has one baseline, and is compared with the run that has all of them: nobody notices others.
    """
    given = ["baselines=[gbdt_fm_dnn]", "training.averaging=false", *TREES, "resume=true"]
    for what, later in ((".tmp-trees", 4), ("gbdt_fm_dnn/checkpoints/.tmp-step-0000000006", 6)):
        run(forks, feed, *given, folder="killed", code=-9, since=what, kill_at=later)
    done, folder, report = run(forks, feed, *given, folder="killed")
    assert len(list(folder.parent.iterdir())) == 1
    assert not list(folder.rglob(".tmp-*"))
    assert re.search(r"resumed at step \d+ of", done["out"])
    mine, whole = ({"teacher": one["teacher"], "mini": one["students"]["mini"],
                    "baseline.gbdt_fm_dnn": one["baselines"]["gbdt_fm_dnn"]}
                   for one in (report, trained[2]))
    for tower, numbers in mine.items():
        for key in ("weights_sha256", "auc", "params_dense"):
            assert numbers[key] == whole[tower][key], tower
        assert report["progress"][tower] == trained[2]["progress"][tower]


def test_a_baseline_that_breaks_drops_out_beside_one_of_a_users_own(forks, feed):
    (feed.folder / "conf" / "baseline_model").mkdir()
    (feed.folder / "conf" / "baseline_model" / "gbdt_lr.yaml").write_text(
        "# He et al. 2014: a logistic regression on leaves.\ndefaults: [logistic_regression]\n"
        "gbdt: {trees: 3, leaves: 4, learning_rate: 0.1, least_share: 0, patience: 5,\n"
        "       most_categories: 8, threads: 1}\n")
    wild = [f"baseline_overrides.{name}.optimizer={{table: {{learning_rate: 1e30, l2: 0}}}}"
            for name in ("fm", "gbdt_fm_dnn")]
    done, folder, report = run(forks, feed, "baselines=[fm,gbdt_fm_dnn,gbdt_lr]", "students=[]",
                               *TREES, *wild, folder="broken")
    assert report["status"] == "done"
    own = report["baselines"]["gbdt_lr"]
    assert (own["params_dense"], own["gbdt"]["trees"], own["auc"] > 0) == (1, 3, True)
    for name in ("fm", "gbdt_fm_dnn"):
        assert report["progress"][f"baseline.{name}"]["status"] == "diverged"
        assert report["baselines"][name] == {"status": "diverged"}
        assert f"baseline {name} became NaN or infinite and dropped out" in done["out"]
    _, _, again = run(forks, feed, f"run={folder}", job="evaluate", folder="broken")
    assert again["baselines"]["gbdt_fm_dnn"] == {"status": "diverged"}
    assert again["baselines"]["gbdt_lr"]["auc"] == own["auc"]


def test_the_scores_of_a_pool_are_not_for_baselines(tmp_path):
    """Beside a pool with finished members, examples hold scores that a network has no input for."""
    plan = planned("baselines=[gbdt_fm_dnn]", "++baseline_overrides.gbdt_fm_dnn.hidden_units=[4]")
    examples = open_tiny(tmp_path)
    pooled = replace(examples, scores=np.ones((len(examples.labels), 2), np.float32))
    (baseline,) = plan.baselines
    features = TreeFeatures(examples, 8)
    trees = fit_trees(examples, features, replace(baseline.gbdt, trees=2), seed=1,
                      folder=tmp_path / "trees")
    made, expected = (_of_trees(plan, baseline, trees, features, one, tmp_path)
                      for one in (pooled, examples))
    index = examples.split.test
    found, wanted = (Scorer(one.model)(one.examples.rows[index], ["teacher"],
                                       one.examples.dense[index], one.examples.scores_at(index))
                     for one in (made, expected))
    np.testing.assert_array_equal(found["teacher"], wanted["teacher"])
