"""One model to export, with a CIN teacher and weights unlike the initial ones."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import pytest
import tensorflow as tf

from dualdnn.data.lake import Lake
from dualdnn.export.saved_model import Sample
from dualdnn.export.serving_graph import raw_features
from dualdnn.layers.cin import CompressedInteractionNetwork
from dualdnn.training.scoring import Scorer
from pipelines.build import serving_graph
from tests.tiny_run import EVERYTHING, SCHEMA, build_model, open_tiny


@pytest.fixture(scope="session")
def feed(tmp_path_factory):
    return tmp_path_factory.mktemp("feed")


@pytest.fixture(scope="session")
def examples(feed):
    return open_tiny(feed)


@pytest.fixture(scope="session")
def model(examples):
    cin = CompressedInteractionNetwork(layer_sizes=[4, 4], split_half=True, seed=3,
                                       name="teacher_cin")
    model = build_model(examples, [EVERYTHING], alone=True, interactions=[cin])
    for number, table in enumerate(model.tables(model.towers)):
        for column in table.columns():
            column.assign(tf.random.stateless_normal(tf.shape(column), seed=(number, 2)))
    return model


def sample_for(feed, examples, model, tower):
    """The first day, raw and encoded."""
    day = examples.days[0]
    rows = examples.rows[: day.rows]
    return Sample(
        features=raw_features(SCHEMA, Lake(feed / "lake").read(day.day, SCHEMA)), rows=rows,
        logits=Scorer(model)(rows, [tower])[tower],
    )


@pytest.fixture(scope="session")
def sample(feed, examples, model):
    return sample_for(feed, examples, model, "s0")


@pytest.fixture(scope="session")
def graph(model, examples):
    return serving_graph(model, examples, "s0")
