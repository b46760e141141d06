import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import numpy as np
import pytest
import tensorflow as tf

from dualdnn.layers.shared_embedding import SharedEmbedding
from dualdnn.schema import Field, Schema

DIM = 3
FIELDS = (
    Field(name="a", kind="id"),
    Field(name="small", kind="id", size=2),
    Field(name="price", kind="number", direct=True),
    Field(name="dwell", kind="number", privileged=True, direct=True),
    Field(name="list", kind="ids", max_length=2, size=2),
    Field(name="cover", kind="vector", size=2),
    Field(name="vec", kind="vector", file="v", key="a", frozen=True),
    Field(name="b", kind="id"),
)
ROWS = {"main": 12, "size2": 7, "privileged": 3, "vectors_vec": 5, "size3": 6}
NAMES = {"main", "size2", "privileged", "vectors_vec"}
VECTORS = {"vectors_vec": np.arange(20, dtype=np.float32).reshape(5, 4)}


def schema_of(*fields):
    return Schema(name="n", label="y", timestamp="t", fields=fields or FIELDS)


def embedding_of(*fields, linear=True, name="shared", seed=1, **options):
    return SharedEmbedding(schema=schema_of(*fields), table_rows=ROWS, vectors=VECTORS,
                           embedding_dim=DIM, initial_stddev=0.5, linear=linear, seed=seed,
                           name=name, **options)


@pytest.fixture
def batch():
    """Rows `(20, 9)` and floats `(20, 4)`: price, dwell and the two of cover."""
    rng = np.random.default_rng(0)
    highest = [12, 7, 12, 3, 7, 7, 12, 5, 12]
    rows = np.stack([rng.integers(1, high, 20) for high in highest], axis=1)
    rows[::3, 5] = 0  # the second cell of the list is padding
    return rows.astype(np.int32), rng.normal(size=(20, 4)).astype(np.float32)


def randomised(embedding):
    rng = np.random.default_rng(1)
    for variable in embedding.trained_variables():
        variable.assign(rng.normal(size=variable.numpy().shape))
    return embedding


def test_every_field_as_its_formula_says(batch):
    embedding = randomised(embedding_of())
    rows, dense = batch
    vectors, linear = embedding.reader().lookup(tf.constant(rows), tf.constant(dense))
    main, small, privileged, file = (embedding.tables[name].vectors.numpy() for name in
                                      ("main", "size2", "privileged", "vectors_vec"))
    kernels = {name: kernel.numpy() for name, kernel in embedding.kernels.items()}
    second = (rows[:, 5] != 0)[:, np.newaxis]
    pooled = (small[rows[:, 4]] + second * small[rows[:, 5]]) / (1 + second)
    expected = [
        main[rows[:, 0]],
        small[rows[:, 1]] @ kernels["small"],
        main[rows[:, 2]] * dense[:, :1],
        privileged[rows[:, 3]] * dense[:, 1:2],
        pooled @ kernels["list"],
        main[rows[:, 6]] + dense[:, 2:] @ kernels["cover"],
        file[rows[:, 7]] @ kernels["vec"],
        main[rows[:, 8]],
    ]
    np.testing.assert_allclose(vectors, np.stack(expected, axis=1), rtol=1e-4, atol=1e-5)
    weights = {name: table.linear.numpy()[:, 0] for name, table in embedding.tables.items()
               if table.linear is not None}
    assert set(weights) == NAMES - {"vectors_vec"}
    expected = [
        weights["main"][rows[:, 0]], weights["size2"][rows[:, 1]],
        weights["main"][rows[:, 2]] * dense[:, 0], weights["privileged"][rows[:, 3]] * dense[:, 1],
        (weights["size2"][rows[:, 4]] + second[:, 0] * weights["size2"][rows[:, 5]])
        / (1 + second[:, 0]),
        weights["main"][rows[:, 6]], np.zeros(20), weights["main"][rows[:, 8]],
    ]
    np.testing.assert_allclose(linear[:, :, 0], np.stack(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_without_privileged_fields_from_whole_and_from_served_inputs(batch):
    rows, dense = map(tf.constant, batch)
    embedding = randomised(embedding_of())
    whole, linear = embedding.reader().lookup(rows, dense)
    places = [0, 1, 2, 4, 5, 6, 7]
    served = embedding.reader(served=True).lookup(
        tf.gather(rows, [0, 1, 2, 4, 5, 6, 7, 8], axis=1), tf.gather(dense, [0, 2, 3], axis=1),
        linear=False)
    assert len(served) == 1
    np.testing.assert_allclose(served[0], tf.gather(whole, places, axis=1), atol=1e-6)
    own = embedding_of(name="alone", linear=False, privileged=False)
    assert set(own.tables) == NAMES - {"privileged"}
    assert "dwell" not in own.kernels
    (vectors,) = own.reader().lookup(rows, dense)
    assert vectors.shape == (20, 7, DIM)
    assert linear.shape == (20, 8, 1)


def test_frozen_vectors_are_not_among_what_is_trained():
    embedding = embedding_of()
    frozen = embedding.tables["vectors_vec"]
    assert not frozen.trainable
    assert frozen not in embedding.trained_tables
    assert all(variable is not frozen.vectors for variable in embedding.trained_variables())
    assert set(embedding.kernels) == {"small", "list", "cover", "vec"}


def test_a_size_that_is_the_embeddings_needs_no_matrix():
    embedding = embedding_of(Field(name="small", kind="id", size=DIM), Field(name="b", kind="id"))
    assert embedding.kernels == {}


def test_the_main_table_starts_as_it_does_without_the_others():
    alone = embedding_of(*(f for f in FIELDS if f.name in ("a", "price", "cover", "b")))
    np.testing.assert_array_equal(alone.tables["main"].vectors,
                                  embedding_of().tables["main"].vectors)
    assert np.any(embedding_of(seed=2).kernels["small"] != embedding_of().kernels["small"])
