from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dualdnn.data.examples import open_examples
from dualdnn.data.lake import Lake
from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.sources.simulated_feed import SimulatedFeed
from dualdnn.data.window import Rolling
from dualdnn.errors import ConfigError
from dualdnn.evaluation.linear_reference import fitted_weights, one_hot, tuned
from dualdnn.schema import schema_from_dict

CONF = Path(__file__).resolve().parents[3] / "conf" / "data" / "simulated_feed.yaml"
SMALL = {"rows": 32_000, "days": 4, "users": 60, "new_items_a_day": 3, "threads": 1}
# Of the lake, but never for a model: the answer, or known only after a click.
SECRETS = {"true_probability", "click", "dwell_seconds", "click_delay_seconds"}


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load(CONF.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def feed_schema(config):
    return schema_from_dict({key: value for key, value in config.items()
                             if key not in ("source", "lake", "sampling_rate")})


def opened(folder, schema, **changes):
    feed = SimulatedFeed(**{**SMALL, **changes})
    feed.prepare(folder / "lake")
    lake = Lake(folder / "lake")
    examples = open_examples(lake=lake, schema=schema, state=folder / "state",
                             window=Rolling(days=feed.days - 1, valid_days=1))
    truth = pa.concat_tables([pq.ParquetFile(path).read(columns=["true_probability"])
                              for day in lake.days() for path in lake.files(day)])
    p = truth["true_probability"].to_numpy()
    return examples, np.log(p / (1 - p))


def test_the_configuration_shows_the_defaults_of_version_1(config):
    source = {key: value for key, value in config["source"].items() if key != "_target_"}
    assert SimulatedFeed(**source) == SimulatedFeed()
    assert SimulatedFeed().mistakes(Path("lake")) == []


def test_no_field_tells_the_answer(feed_schema):
    names = {field.name for field in feed_schema.fields}
    assert names.isdisjoint(SECRETS | {"request_id", "timestamp", "sampling_rate"})


def residual(examples, logits):
    """Share of the variance of the true logits that no linear function of the rows gives."""
    # Rows whose ids the training part knows: the others have no column of their own.
    known = np.ones(len(logits), bool)
    for position, field in enumerate(examples.schema.fields):
        oov = examples.row_map.oov_rows[position]
        known &= (examples.rows[:, examples.columns(field.name)] != oov).all(axis=1)
    index = np.flatnonzero(known)[::3]
    features = one_hot(examples, index).toarray()
    features = features[:, features.any(axis=0)]
    fitted = features @ np.linalg.lstsq(features, logits[index], rcond=None)[0]
    return np.var(logits[index] - fitted) / np.var(logits[index])


def test_in_the_additive_regime_the_true_logit_is_linear_in_the_rows_that_models_read(
        tmp_path, feed_schema):
    assert residual(*opened(tmp_path, feed_schema, regime="additive")) < 1e-6


@pytest.mark.parametrize("regime", ["pairwise", "third_order"])
def test_in_the_others_it_is_not(tmp_path, feed_schema, regime):
    assert residual(*opened(tmp_path, feed_schema, regime=regime)) > 0.1


def test_the_linear_reference_reaches_the_truth_of_the_additive_regime(tmp_path, feed_schema):
    examples, logits = opened(tmp_path, feed_schema, regime="additive", rows=240_000,
                              days=12)
    train, test = examples.split.train, examples.split.test
    test = test[examples.is_known("item_id", test)]
    features, labels = one_hot(examples, train), examples.labels.astype(np.float64)
    weights = fitted_weights(features, labels[train], 2.0, np.zeros(features.shape[1] + 1))
    linear = one_hot(examples, test) @ weights[:-1] + weights[-1]

    def losses(scores):
        return np.logaddexp(0, (1 - 2 * labels[test]) * scores)

    excess = losses(linear) - losses(logits[test])
    # A fitted parameter costs 1 / (2 rows) nats, the rest is the noise of the test rows.
    expected = features.shape[1] / (2 * len(train))
    assert excess.mean() < expected + 4 * excess.std() / np.sqrt(len(excess))


def test_the_linear_fit_is_the_minimum(tmp_path, feed_schema):
    examples, _ = opened(tmp_path, feed_schema, rows=3_200)
    features = one_hot(examples, examples.split.train)
    labels = examples.labels[examples.split.train].astype(np.float64)
    weights = fitted_weights(features, labels, 3.0, np.zeros(features.shape[1] + 1))
    p = 1 / (1 + np.exp(-(features @ weights[:-1] + weights[-1])))
    gradient = np.append(features.T @ (p - labels) + 3.0 * weights[:-1], (p - labels).sum())
    assert np.abs(gradient).max() < 1.0  # of sums over 1,600 rows
    assert p.mean() == pytest.approx(labels.mean(), abs=1e-3)


@pytest.mark.parametrize(("start", "best"), [(1.0, 1.0), (1.0, 16.0), (64.0, 4.0)])
def test_tuning_walks_to_the_best_strength(start, best):
    strength, fit = tuned(lambda s: (abs(np.log(s / best)), f"fit {s}"), start, 2.0)
    assert strength == best
    assert fit == f"fit {best}"


def test_a_search_for_a_prior_ends_where_none_is_best():
    tried = []

    def fit(strength):
        tried.append(strength)
        return 0.5 + 1e-5 * strength, strength

    assert tuned(fit, 1.0, 2.0) == (0.125, 0.125)
    assert tried == [1.0, 2.0, 0.5, 0.25, 0.125, 0.0625]


def test_all_mistakes_are_named_at_once():
    feed = SimulatedFeed(version=2, regime="quadratic", rows=5, days=0, users=1,
                         new_items_a_day=0, seed=-1, first_day="2024-1-1", kept_negatives=0.0,
                         longest_click_delay=0, rows_per_file=1, threads=0)
    found = feed.mistakes(Path("lake"))
    for name in ("version", "regime", "rows", "days", "users", "new_items_a_day", "seed",
                 "first_day", "kept_negatives", "longest_click_delay", "rows_per_file", "threads"):
        assert sum(mistake.startswith(f"data.source.{name} must be") for mistake in found) == 1
    assert len(found) == 12
    with pytest.raises(ConfigError, match="12 mistakes in the configuration"):
        feed.prepare(Path("lake"))


@pytest.mark.parametrize(("change", "message"), [
    ({"rows": 100, "days": 31}, "rows must be a whole number of at least 8 a day, got 100 for 31"),
    ({"kept_negatives": 1.5}, "kept_negatives must be above 0 and at most 1, got 1.5"),
    ({"first_day": "20240101"}, "first_day must be a day as YYYY-MM-DD"),
    ({"first_day": 20240101}, "first_day must be a day as YYYY-MM-DD"),
    ({"users": 10.0}, "users must be a whole number from 2 to 100000000, got 10.0"),
    ({"version": 2}, "version must be 1, the only one this code knows, got 2"),
])
def test_a_mistake_says_what_is_expected(change, message):
    found = replace(SimulatedFeed(), **change).mistakes(Path("lake"))
    assert len(found) == 1
    assert message in found[0]


def test_rows_are_spread_evenly_over_the_days():
    settings = FeedSettings(rows=1_000_003, days=31)
    rows = [settings.rows_of_day(day) for day in range(31)]
    assert sum(rows) == 1_000_003
    assert max(rows) - min(rows) == 1
