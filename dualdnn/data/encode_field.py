"""Encoding one column: values become unique signs and an index per cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from dualdnn.data.pseudonyms import pseudonyms
from dualdnn.data.signs import MISSING, signs_of, signs_of_pairs
from dualdnn.errors import DataError
from dualdnn.schema import Field

# Between the two values of a cross, in reports.
_CROSSED = " × "


@dataclass(frozen=True, kw_only=True)
class EncodedField:
    """One categorical field of one day.

    Attributes:
        cells: (rows, field width) int32 index into `signs`; `len(signs)` where the field is
            missing, -1 for padding.
        signs: (unique,) int64, ascending.
        counts: (unique,) int64, how many cells hold each sign.
        texts: (unique,) large_string, the value behind each sign; "" where it is personal.
    """

    cells: np.ndarray
    signs: np.ndarray
    counts: np.ndarray
    texts: pa.Array


def _collision(name: str) -> DataError:
    return DataError(
        f"field `{name}`: two values have the same 64-bit sign. This is expected once in about "
        "10^11 days of 10^4 values; drop one of the values or rename the field."
    )


def unique_signs(
    name: str, namespace: str, text: pa.Array, key: bytes | None
) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Sorted unique signs of a flat array, the index of each value (-1 missing), the texts.

    Args:
        name: of the field, for messages.
        namespace: goes into the signs.
        text: (n,) large_string.
        key: of pseudonyms, for personal values; their texts come back empty.

    Raises:
        DataError: two values have one sign.
    """
    encoded = pc.dictionary_encode(text)
    texts = encoded.dictionary
    if key is None:
        given = texts.cast(pa.large_binary()).to_pylist()
    else:
        given = pseudonyms(texts.to_pylist(), key)
    of_text = signs_of(namespace, tf.constant(given, tf.string, shape=(len(given),))).numpy()
    order = np.argsort(of_text, kind="stable")
    order = order[of_text[order] != MISSING]
    signs = of_text[order]
    if (signs[1:] == signs[:-1]).any():
        raise _collision(name)
    position = np.full(len(given) + 1, -1, np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    # A null has the index -1 and so takes the last position.
    index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    kept = texts.take(pa.array(order)) if key is None else pa.array([""] * len(order),
                                                                    pa.large_string())
    return signs, position[index], kept


def _list_cells(array: pa.Array, width: int) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """The first `width` values of every list: flat text, and the (row, column) of each."""
    offsets = array.offsets.to_numpy()
    lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, np.diff(offsets))
    kept = np.minimum(lengths, width)
    row = np.repeat(np.arange(len(array)), kept)
    column = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
    return array.values.take(pa.array(np.repeat(offsets[:-1], kept) + column)), row, column


def encode_field(field: Field, array: pa.Array, key: bytes | None) -> EncodedField:
    """Encode the values of one categorical field.

    Args:
        field: not a cross.
        array: (rows,) large_string, or lists of it.
        key: of pseudonyms, used where the field is `pii`.

    Raises:
        DataError: two values have one sign.
    """
    key = key if field.pii else None
    if not field.is_list:
        signs, index, texts = unique_signs(field.name, field.namespace, array, key)
        cells = index[:, np.newaxis]
    else:
        flat, row, column = _list_cells(array, field.width)
        signs, index, texts = unique_signs(field.name, field.namespace, flat, key)
        cells = np.full((len(array), field.width), -1, np.int32)
        cells[row, column] = index
    counts = np.bincount(index[index >= 0], minlength=len(signs)).astype(np.int64)
    first = cells[:, 0]
    first[(cells < 0).all(axis=1) if field.is_list else first < 0] = len(signs)
    return EncodedField(cells=cells, signs=signs, counts=counts, texts=texts)


def encode_cross(field: Field, first: EncodedField, second: EncodedField) -> EncodedField:
    """Encode a cross from its two encoded fields.

    Raises:
        DataError: two pairs have one sign.
    """
    one, other = first.cells[:, 0].astype(np.int64), second.cells[:, 0].astype(np.int64)
    present = (one < len(first.signs)) & (other < len(second.signs))
    pairs, inverse = np.unique(one[present] * len(second.signs) + other[present],
                               return_inverse=True)
    left, right = np.divmod(pairs, max(len(second.signs), 1))
    of_pair = signs_of_pairs(field.name, tf.constant(first.signs[left]),
                             tf.constant(second.signs[right])).numpy()
    order = np.argsort(of_pair, kind="stable")
    signs = of_pair[order]
    if (signs[1:] == signs[:-1]).any():
        raise _collision(field.name)
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    cells = np.full((len(one), 1), len(signs), np.int32)
    cells[present, 0] = position[inverse]
    counts = np.bincount(cells[present, 0], minlength=len(signs)).astype(np.int64)
    if field.pii:
        texts = pa.array([""] * len(signs), pa.large_string())
    else:
        texts = pc.binary_join_element_wise(first.texts.take(pa.array(left[order])),
                                            second.texts.take(pa.array(right[order])),
                                            pa.scalar(_CROSSED, pa.large_string()))
    return EncodedField(cells=cells, signs=signs, counts=counts, texts=texts)
