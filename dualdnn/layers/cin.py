"""Compressed interaction network (xDeepFM), computed in tiles that stay in cache.

The outer product of a CIN layer is far larger than its inputs and outputs. Written out for the
whole batch, it goes through memory several times a step. Here a loop makes it for one tile at a
time and multiplies it at once; the backward pass makes it again rather than keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dualdnn.errors import ConfigError
from dualdnn.layers.seeds import derive_seed

# Floats in one tile's outer product: 4 MB, so that two tiles in flight and, going back, a second
# tensor of this size each stay in the last-level cache beside the weights and their gradient.
_TILE_FLOATS = 1 << 20


def _tile_rows(columns: int) -> int:
    """Rows of a tile whose outer product has `columns` columns: a power of two."""
    return 1 << (max(_TILE_FLOATS // columns, 1).bit_length() - 1)


def _over_tiles(
    step: Callable[..., tuple[list[tf.Tensor], list[tf.Tensor]]],
    inputs: Sequence[tf.Tensor],
    *,
    tile: int,
    row_shapes: Sequence[tuple[int | None, ...]],
    total_shapes: Sequence[tuple[int, ...]] = (),
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Call `step` on consecutive slices of `tile` rows; the last may be shorter.

    Returns:
        what the steps return, rows concatenated and totals added up in the order of the tiles.
    """
    # One tile at least, so that an empty batch gives empty rows and totals of zero.
    num_tiles = tf.maximum((tf.shape(inputs[0])[0] + tile - 1) // tile, 1)
    arrays = [
        tf.TensorArray(tf.float32, num_tiles, element_shape=(None, *shape), infer_shape=False)
        for shape in row_shapes
    ]

    def body(i: tf.Tensor, arrays: list[Any], totals: list[tf.Tensor]) -> tuple[Any, ...]:
        rows, terms = step(*(value[i * tile : (i + 1) * tile] for value in inputs))
        arrays = [array.write(i, value) for array, value in zip(arrays, rows, strict=True)]
        return i + 1, arrays, [a + b for a, b in zip(totals, terms, strict=True)]

    _, arrays, totals = tf.while_loop(
        lambda i, *_: i < num_tiles,
        body,
        (0, arrays, [tf.zeros(shape) for shape in total_shapes]),
        parallel_iterations=2,
    )
    return [array.concat() for array in arrays], totals


def _products(maps: tf.Tensor, fields: tf.Tensor) -> tf.Tensor:
    """Sum over the middle axis of the outer products: `(groups, num_fields * num_maps)`."""
    product = tf.matmul(fields, maps, transpose_a=True)
    return tf.reshape(product, (-1, fields.shape[2] * maps.shape[2]))


def _interact(maps: tf.Tensor, fields: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """sum_r sum_ij kernel[j * num_maps + i, h] * maps[g, r, i] * fields[g, r, j].

    Args:
        maps: `(groups, rows, num_maps)`.
        fields: `(groups, rows, num_fields)`.
        kernel: `(num_fields * num_maps, units)`.

    Returns:
        `(groups, units)`.
    """
    _, rows, num_maps = maps.shape
    num_fields, (columns, units) = fields.shape[2], kernel.shape
    tile = _tile_rows(columns)

    def function(maps: tf.Tensor, fields: tf.Tensor, kernel: tf.Tensor) -> tuple[Any, Any]:
        (output,), _ = _over_tiles(
            lambda m, f: ([tf.matmul(_products(m, f), kernel)], []),
            (maps, fields),
            tile=tile,
            row_shapes=[(units,)],
        )

        def backward(m: tf.Tensor, f: tf.Tensor, d: tf.Tensor) -> tuple[Any, Any]:
            d_kernel = tf.matmul(_products(m, f), d, transpose_a=True)
            d_product = tf.matmul(d, kernel, transpose_b=True)
            d_product = tf.reshape(d_product, (-1, num_fields, num_maps))
            d_fields = tf.matmul(m, d_product, transpose_b=True)
            return [tf.matmul(f, d_product), d_fields], [d_kernel]

        def gradient(d_output: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (d_maps, d_fields), (d_kernel,) = _over_tiles(
                backward,
                (maps, fields, d_output),
                tile=tile,
                row_shapes=[(rows, num_maps), (rows, num_fields)],
                total_shapes=[(columns, units)],
            )
            return d_maps, d_fields, d_kernel

        return output, gradient

    return tf.custom_gradient(function)(maps, fields, kernel)


def _interact_with_itself(fields: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`_interact` of `fields` with itself, one row a group, over the pairs i <= j only.

    x_i x_j = x_j x_i: the columns (i, j) and (j, i) of the outer product are equal, so their
    weights are added first and half of the multiplication remains.

    Args:
        fields: `(rows, num_fields)`.
        kernel: `(num_fields * num_fields, units)`.

    Returns:
        `(rows, units)`.
    """
    num_fields, units = fields.shape[1], kernel.shape[1]
    first, second = np.triu_indices(num_fields)
    share = np.where(first == second, 0.5, 1.0).astype(np.float32)[:, None]
    one_hot = np.eye(num_fields, dtype=np.float32)
    to_first, to_second = one_hot[:, first], one_hot[:, second]
    weights = tf.reshape(kernel, (num_fields, num_fields, units))
    weights = tf.reshape(weights + tf.transpose(weights, (1, 0, 2)), (-1, units))
    weights = tf.gather(weights, first * num_fields + second) * share
    tile = _tile_rows(len(first))

    def pairs(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Columns of rows, because gathering whole rows of a matrix is a plain copy.
        columns = tf.transpose(rows)
        return tf.gather(columns, first), tf.gather(columns, second)

    def function(fields: tf.Tensor, weights: tf.Tensor) -> tuple[Any, Any]:
        def forward(rows: tf.Tensor) -> tuple[Any, Any]:
            x, y = pairs(rows)
            return [tf.matmul(x * y, weights, transpose_a=True)], []

        (output,), _ = _over_tiles(forward, (fields,), tile=tile, row_shapes=[(units,)])

        def backward(rows: tf.Tensor, d: tf.Tensor) -> tuple[Any, Any]:
            x, y = pairs(rows)
            d_product = tf.matmul(weights, d, transpose_b=True)
            # A matmul with zeros and ones adds the pairs of a field up faster than a scatter.
            d_rows = tf.matmul(to_first, d_product * y) + tf.matmul(to_second, d_product * x)
            return [tf.transpose(d_rows)], [tf.matmul(x * y, d)]

        def gradient(d_output: tf.Tensor) -> tuple[tf.Tensor, ...]:
            (d_fields,), (d_weights,) = _over_tiles(
                backward,
                (fields, d_output),
                tile=tile,
                row_shapes=[(num_fields,)],
                total_shapes=[(len(first), units)],
            )
            return d_fields, d_weights

        return output, gradient

    return tf.custom_gradient(function)(fields, weights)


class CompressedInteractionNetwork(keras.layers.Layer):
    """Explicit interactions of bounded degree between whole field embeddings.

    X^k_h = activation(sum_{i,j} W^{k,h}_{ij} (X^{k-1}_i o X^0_j)),  p^k_h = sum_d X^k_{h,d}

    with o the elementwise product, X^0 the field embeddings and no bias, as in the paper. The
    output is the pooled maps p^k of all layers. Input `(batch_size, num_fields, embedding_dim)`;
    output `(batch_size, num_pooled_maps)`.

    Where the activation is linear, maps that are only pooled are never made: the sum over d is
    taken first, sum_ij W_ij (sum_d X_{i,d} X^0_{j,d}), which is embedding_dim times cheaper.
    The weights of a layer are one variable `(num_fields * num_previous_maps, num_maps)` whose
    row j * num_previous_maps + i holds W_{ij}.

    Source: Lian et al. 2018, "xDeepFM", arXiv:1803.05170; its identity activation is the default.
    """

    def __init__(
        self,
        *,
        layer_sizes: Sequence[int],
        split_half: bool = False,
        activation: str = "linear",
        seed: int,
        name: str,
    ) -> None:
        """Initial weights depend on `seed` and `name` alone.

        Args:
            layer_sizes: feature maps of each layer.
            split_half: of every layer but the last, the first half of the maps feeds the next
                layer and the other half the output, instead of all maps feeding both.
            activation: Keras name of the activation.
            seed: of the run.
            name: of the layer; part of the seed.

        Raises:
            ConfigError: a layer size is not a positive integer, or is odd where it is split, or
                the activation is unknown.
        """
        super().__init__(name=name)
        _check(layer_sizes, split_half, activation)
        self.layer_sizes = tuple(layer_sizes)
        self.split_half = split_half
        self.activation = activation
        self.seed = seed
        self._activate = None if activation == "linear" else keras.activations.get(activation)
        # A layer's maps [:num_next] feed the next layer, its maps [first_pooled:] the output.
        inner = [size // 2 if split_half else size for size in self.layer_sizes[:-1]]
        self._num_next = (*inner, 0)
        self._first_pooled = (*(n if split_half else 0 for n in inner), 0)

    def build(self, input_shape: tf.TensorShape) -> None:
        """Make one kernel a layer."""
        num_fields = num_previous = input_shape[1]
        self.kernels = []
        for k, (size, num_next) in enumerate(zip(self.layer_sizes, self._num_next, strict=True)):
            variable = f"kernel_{k}"
            self.kernels.append(
                self.add_weight(
                    name=variable,
                    shape=(num_fields * num_previous, size),
                    initializer=keras.initializers.GlorotUniform(
                        seed=derive_seed(self.seed, self.name, variable)
                    ),
                )
            )
            num_previous = num_next
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Interact and pool."""
        # (batch_size, num_fields, embedding_dim) -> (batch_size, embedding_dim, num_fields)
        fields = tf.transpose(inputs, (0, 2, 1))
        maps, pooled = fields, []
        for kernel, size, num_next, first_pooled in zip(
            self.kernels, self.layer_sizes, self._num_next, self._first_pooled, strict=True
        ):
            kernel = tf.convert_to_tensor(kernel)
            if self._activate is None and num_next <= first_pooled:
                # No pooled map is needed for itself: pool before multiplying.
                pooled.append(_interact(maps, fields, kernel[:, first_pooled:]))
                if num_next:
                    maps = self._maps(maps, fields, kernel[:, :num_next])
                continue
            maps = self._maps(maps, fields, kernel)
            pooled.append(tf.reduce_sum(maps[:, :, first_pooled:], axis=1))
            maps = maps if num_next == size else maps[:, :, :num_next]
        return tf.concat(pooled, axis=1)

    def _maps(self, maps: tf.Tensor, fields: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The layer's maps, `(batch_size, embedding_dim, num_maps)`."""
        _, dim, num_fields = fields.shape
        rows = tf.reshape(fields, (-1, num_fields))
        if maps is fields:
            output = _interact_with_itself(rows, kernel)
        else:
            flat = tf.reshape(maps, (-1, 1, maps.shape[2]))
            output = _interact(flat, rows[:, None, :], kernel)
        output = tf.reshape(output, (-1, dim, kernel.shape[1]))
        return output if self._activate is None else self._activate(output)

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        """`(batch_size, num_pooled_maps)`."""
        pooled = zip(self.layer_sizes, self._first_pooled, strict=True)
        return tf.TensorShape((input_shape[0], sum(size - first for size, first in pooled)))

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {
            "layer_sizes": list(self.layer_sizes),
            "split_half": self.split_half,
            "activation": self.activation,
            "seed": self.seed,
            "name": self.name,
        }


def _check(layer_sizes: Sequence[int], split_half: bool, activation: str) -> None:
    mistakes = []
    sizes = list(layer_sizes) if isinstance(layer_sizes, Sequence) else []
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        mistakes.append(
            f"`layer_sizes` of the CIN must be one or more positive integers, got "
            f"{layer_sizes}. "
            "Use for example [128, 128]."
        )
    elif split_half and any(size % 2 for size in sizes[:-1]):
        mistakes.append(
            "`layer_sizes` of the CIN must be even in every layer but the last where "
            f"`split_half` is on, got {sizes}. Use even sizes or split_half=false."
        )
    if not isinstance(split_half, bool):
        mistakes.append(f"`split_half` of the CIN must be true or false, got {split_half!r}.")
    try:
        keras.activations.get(activation)
    except ValueError:
        mistakes.append(
            f"`activation` of the CIN must be the Keras name of an activation, got "
            f"{activation!r}. Use linear (the paper's choice) or relu."
        )
    if mistakes:
        raise ConfigError(mistakes)
