from dataclasses import replace

import numpy as np
import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from benchmarks.quality.in_process import checked_plan
from dualdnn.data.window import Rolling
from dualdnn.evaluation.feed_references import feed_references
from pipelines.build import open_plan_data
from pipelines.references import reference_section

SMALL = ["data=simulated_feed", "data.source.rows=48000", "data.source.days=6",
         "data.source.users=60", "data.source.new_items_a_day=3", "window=rolling",
         "window.days=5", "window.valid_days=1"]


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    plan, _ = checked_plan([*SMALL, f"paths.state={state}"])
    return plan, open_plan_data(plan, state), state


def test_references_are_measured_and_the_truth_is_calibrated(feed):
    plan, examples, state = feed
    found = feed_references(plan.source, plan.lake, examples, state / "references")
    truth, linear = found.logits["truth"], found.logits["best_linear"]
    section = reference_section(plan, examples, {"teacher": linear}, state)
    metrics = section["references"]
    assert list(metrics) == ["truth", "true_form", "best_linear"]
    assert metrics["truth"]["log_loss"] < metrics["best_linear"]["log_loss"]
    # Labels were drawn from the truth: it is calibrated.
    labels = examples.labels[examples.split.test]
    spread = np.sqrt(np.sum(1 / (2 + 2 * np.cosh(truth)))) / len(labels)
    assert abs(np.mean(1 / (1 + np.exp(-truth))) - labels.mean()) < 4 * spread


def test_closed_is_the_share_of_the_distance_from_linear_to_the_fitted_form(feed, monkeypatch):
    plan, examples, state = feed
    labels = examples.labels[examples.split.test]
    noise = np.random.default_rng(1).normal(size=len(labels))
    # A long distance, which the fits of so small a feed do not have.
    form, linear = 2 * labels + noise, 0.5 * labels + noise
    found = replace(feed_references(plan.source, plan.lake, examples, state / "references"),
                    logits={"truth": form, "true_form": form, "best_linear": linear})
    monkeypatch.setattr("pipelines.references.feed_references", lambda *_: found)
    closed = reference_section(plan, examples, {"teacher": form, "light": linear}, state)["closed"]
    assert closed["all_rows"] == {"teacher": pytest.approx(1.0), "light": 0.0}
    assert closed["frequent"]["teacher"] == pytest.approx(1.0)


def test_fits_are_kept_for_the_same_split_and_made_again_for_another(feed):
    plan, examples, state = feed
    folder = state / "references"
    first = feed_references(plan.source, plan.lake, examples, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    again = feed_references(plan.source, plan.lake, examples, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == before
    for name, logits in first.logits.items():
        np.testing.assert_array_equal(logits, again.logits[name])
    other = replace(plan, window=Rolling(days=4, valid_days=1, as_of="2024-01-05"))
    feed_references(plan.source, plan.lake, open_plan_data(other, state), folder)
    assert len(list(folder.glob("*.npz"))) == len(before) + 1


def test_other_data_and_a_switch_that_is_off_have_no_references(feed):
    plan, examples, state = feed
    assert reference_section(replace(plan, references=False), examples, {}, state) == {}
    assert reference_section(replace(plan, source=None), examples, {}, state) == {}
    without = replace(examples, split=replace(examples.split, valid=np.zeros(0, np.int64)))
    assert reference_section(plan, without, {}, state) == {}


@pytest.mark.prove
def test_of_sampled_negatives_the_truth_is_still_the_best(tmp_path):
    plan, _ = checked_plan([*SMALL, "data.source.kept_negatives=0.3", f"paths.state={tmp_path}"])
    examples = open_plan_data(plan, tmp_path)
    metrics = reference_section(plan, examples, {}, tmp_path)["references"]
    losses = {name: numbers["log_loss"] for name, numbers in metrics.items()}
    assert min(losses, key=losses.get) == "truth"
    # On the scale of the log before sampling, whose click rate is about a quarter.
    assert losses["truth"] < 0.6


def test_feeds_of_other_settings_have_lakes_of_their_own(tmp_path):
    lakes = {checked_plan([*SMALL, f"paths.state={tmp_path}", *changed])[0].lake.path
             for changed in ([], ["data.source.kept_negatives=0.3"], ["data.source.users=61"],
                             ["data.source.first_day='2024-02-01'"], ["data.source.seed=2"])}
    assert len(lakes) == 5
