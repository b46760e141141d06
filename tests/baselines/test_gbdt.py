import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import importlib.util
import json
import sys
from dataclasses import replace

import lightgbm
import numpy as np
import pytest

from dualdnn.baselines.gbdt import GbdtSettings, Trees, fit_trees, with_leaves
from dualdnn.baselines.tree_features import TreeFeatures
from dualdnn.errors import ConfigError, DataError
from dualdnn.evaluation.metrics import auc
from tests.tiny_run import open_tiny

SETTINGS = GbdtSettings(trees=12, leaves=6, learning_rate=0.3, least_share=0.0, patience=12,
                        most_categories=32, threads=1)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def features(examples):
    return TreeFeatures(examples, SETTINGS.most_categories)


@pytest.fixture(scope="module")
def trees(examples, features, tmp_path_factory):
    return fit_trees(examples, features, SETTINGS, seed=1,
                     folder=tmp_path_factory.mktemp("fitted") / "trees")


def walked(node, row):
    """The leaf of a dumped tree that a row falls into, by LightGBM's own rules."""
    while "leaf_index" not in node and "split_feature" in node:
        value, threshold = row[node["split_feature"]], node["threshold"]
        if node["decision_type"] == "==":
            goes_left = not np.isnan(value) and str(int(value)) in threshold.split("||")
        else:
            if np.isnan(value) and node["missing_type"] != "NaN":
                value = 0.0
            goes_left = node["default_left"] if np.isnan(value) else value <= float(threshold)
        node = node["left_child" if goes_left else "right_child"]
    return node.get("leaf_index", 0)


def test_leaves_are_those_of_a_walk_down_every_tree(examples, features, trees):
    given = features.matrix(np.arange(len(examples.labels)))
    dumped = lightgbm.Booster(model_file=trees.folder / "trees.txt").dump_model()["tree_info"]
    assert len(dumped) == trees.count >= 2
    expected = [[walked(tree["tree_structure"], row) for tree in dumped] for row in given]
    np.testing.assert_array_equal(trees.leaves(given), expected)
    assert trees.leaves(given[:1], threads=1).shape == (1, trees.count)


def test_the_trees_have_learned_something(examples, features, trees):
    train = examples.split.train
    assert auc(examples.labels[train], trees.logits(features.matrix(train))) > 0.65


def test_the_same_seed_gives_the_same_trees_and_labels_of_other_parts_change_nothing(
        examples, features, trees, tmp_path):
    hidden = replace(examples, labels=examples.labels.copy())
    hidden.labels[examples.split.test] = 1 - hidden.labels[examples.split.test]
    again = fit_trees(hidden, TreeFeatures(hidden, SETTINGS.most_categories), SETTINGS, seed=1,
                      folder=tmp_path / "trees")
    assert again.digest() == trees.digest()
    assert {**again.about, "seconds": 0} == {**trees.about, "seconds": 0}


def test_validation_says_how_many_trees(examples, features, tmp_path):
    settings = replace(SETTINGS, trees=200, patience=3)
    stopped = fit_trees(examples, features, settings, seed=1, folder=tmp_path / "stopped")
    blind = replace(examples, split=replace(examples.split, valid=np.zeros(0, np.int64)))
    whole = fit_trees(blind, TreeFeatures(blind, 32), replace(SETTINGS, trees=30), seed=1,
                      folder=tmp_path / "whole")
    assert 0 < stopped.count == stopped.about["trees"] < 30
    assert whole.count == 30
    # After some trees that make it worse, the validation loss gets better again.
    hasty, patient = (
        fit_trees(examples, features, replace(SETTINGS, trees=60, leaves=3, learning_rate=0.1,
                                              patience=patience), seed=1,
                  folder=tmp_path / str(patience)) for patience in (3, 20))
    assert hasty.count + 3 < patient.count < 60


def test_what_an_earlier_try_has_left_is_loaded(examples, features, trees):
    before = (trees.folder / "trees.txt").stat().st_mtime_ns
    again = fit_trees(examples, features, SETTINGS, seed=99, folder=trees.folder)
    assert again.digest() == trees.digest()
    assert (trees.folder / "trees.txt").stat().st_mtime_ns == before


def test_every_setting_counts(examples, features, trees, tmp_path):
    for name, value in (("leaves", 3), ("learning_rate", 0.05), ("least_share", 0.2),
                        ("trees", 1)):
        other = fit_trees(examples, features, replace(SETTINGS, **{name: value}), seed=1,
                          folder=tmp_path / name)
        given = features.matrix(examples.split.train)
        assert not np.array_equal(other.logits(given), trees.logits(given)), name
    two = fit_trees(examples, features, replace(SETTINGS, threads=2), seed=1,
                    folder=tmp_path / "threads")
    assert "[num_threads: 2]" in (two.folder / "trees.txt").read_text()


def test_sample_weights_count(examples, features, trees, tmp_path):
    weighted = replace(examples, weights=np.where(examples.labels == 1, 9.0, 1.0).astype(
        np.float32))
    other = fit_trees(weighted, features, SETTINGS, seed=1, folder=tmp_path / "trees")
    given = features.matrix(examples.split.test)
    assert other.logits(given).mean() > trees.logits(given).mean() + 0.5


def test_the_scale_of_sample_weights_does_not_count(examples, features, tmp_path):
    # LightGBM's limits on leaves are in units of weight: of light rows it would grow other trees.
    # A power of two leaves every digit of a weight as it is.
    weights = 0.5 + np.random.default_rng(2).random(len(examples.labels), np.float32)
    one, light = (fit_trees(replace(examples, weights=scale * weights), features, SETTINGS,
                            seed=1, folder=tmp_path / str(scale))
                  for scale in (np.float32(1), np.float32(2**-10)))
    assert one.count > 1
    assert light.digest() == one.digest()


def test_leaves_become_fields(examples, features, trees, tmp_path):
    leafed = with_leaves(examples, trees, features, tmp_path)
    new = leafed.schema.fields[len(examples.schema.fields):]
    assert [(field.kind, field.buckets) for field in new] == [("hash", 6)] * trees.count
    leaves = trees.leaves(features.matrix(np.arange(len(examples.labels))))
    np.testing.assert_array_equal(
        leafed.rows[:, examples.schema.width:] - leafed.row_map.bucket_rows[-trees.count:], leaves)
    assert leafed.fingerprint != examples.fingerprint


def test_wrong_settings_are_named():
    wrong = GbdtSettings(trees=0, leaves=1, learning_rate=1.5, least_share=0.5, patience=0,
                         most_categories=256, threads=0)
    found = wrong.mistakes("gbdt")
    assert [one.split(" must")[0] for one in found] == [
        "gbdt.trees", "gbdt.patience", "gbdt.threads", "gbdt.leaves", "gbdt.learning_rate",
        "gbdt.least_share", "gbdt.most_categories"]
    assert SETTINGS.mistakes("gbdt") == []


def test_without_lightgbm_it_is_said_what_to_do(trees, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert SETTINGS.mistakes("baseline/x.gbdt") == [
        "baseline/x.gbdt needs LightGBM, which is not installed. Install it with `pip install "
        "lightgbm`, or leave this baseline out."]
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigError, match="trees need LightGBM, which cannot be imported"):
        Trees(trees.folder)


def test_a_damaged_file_is_reported(trees, tmp_path):
    (tmp_path / "about.json").write_text(json.dumps(trees.about))
    with pytest.raises(DataError, match="does not hold fitted trees"):
        Trees(tmp_path)
    (tmp_path / "trees.txt").write_text("tree\nnonsense\n")
    with pytest.raises(DataError, match="does not hold fitted trees"):
        Trees(tmp_path)
