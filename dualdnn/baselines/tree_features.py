"""What trees read of an example: numbers as they are, ids by how common they are, no label."""

from __future__ import annotations

import numpy as np

from dualdnn.data.examples import Examples
from dualdnn.data.row_map import PADDING_ROW
from dualdnn.schema import Field


class TreeFeatures:
    """One to a few columns of float32 a field; privileged fields are left out.

    - number: its value, NaN where missing;
    - column of vectors: its floats, NaN where missing;
    - id, hash and cross of few values: the value as a category, NaN where training had not seen it;
    - of more values: how many cells of the training part hold its row, 0 for values without one;
    - list and sequence: how many values it has, and the mean of their counts.

    Counts are rounded to powers of two: a count of 387 would be the name of a user, and trees would
    learn users by heart. A row of the training part does not count itself, so that an id that it
    alone holds looks to the trees as a new id will. Nothing is made from labels.

    Attributes:
        names: of the columns.
        categorical: numbers of the columns that are categories.
    """

    def __init__(self, examples: Examples, most_categories: int) -> None:
        """Count the training part.

        Args:
            examples: the data.
            most_categories: values up to which an id is read as a category.
        """
        self._examples = examples
        schema, train = examples.schema, examples.split.train
        self._fields = [field for field in schema.fields
                        if not field.privileged and not field.file]
        self._is_train = np.zeros(len(examples.labels), bool)
        self._is_train[train] = True
        self._counts = {table: self._counted(table) for table in schema.tables()}
        self._categories: dict[str, np.ndarray] = {}
        self.names: list[str] = []
        self.categorical: list[int] = []
        for field in self._fields:
            if field.is_categorical and not field.is_list:
                values = np.unique(examples.rows[train, examples.columns(field.name).start])
                if len(values) <= most_categories:
                    self._categories[field.name] = values
                    self.categorical.append(len(self.names))
            self.names += self._columns_of(field)

    def _counted(self, table: str) -> np.ndarray:
        """(table rows,) cells of the training part with each row; 0 for padding and unknown."""
        examples = self._examples
        schema, row_map = examples.schema, examples.row_map
        counts = np.zeros(row_map.table_rows[table], np.int64)
        members = schema.tables()[table]
        for field in members:
            cells = examples.rows[examples.split.train, examples.columns(field.name)]
            counts += np.bincount(cells.ravel(), minlength=len(counts))
        unknown = [row_map.oov_rows[schema.fields.index(field)] for field in members]
        counts[[PADDING_ROW, *unknown]] = 0
        return counts

    @staticmethod
    def _columns_of(field: Field) -> list[str]:
        # With a dot, which no field has in its name: LightGBM refuses a name that comes twice.
        if field.is_vector_column:
            return [f"{field.name}.{i}" for i in range(field.size or 0)]
        return [f"{field.name}.length", f"{field.name}.count"] if field.is_list else [field.name]

    def matrix(self, index: np.ndarray) -> np.ndarray:
        """The columns of the rows `index`: (n, len(names)) float32."""
        columns = [self._read(field, index) for field in self._fields]
        empty = np.zeros((len(index), 0), np.float32)
        return np.concatenate([empty, *columns], axis=1)

    def _read(self, field: Field, index: np.ndarray) -> np.ndarray:
        """(n, columns of the field) float32."""
        examples = self._examples
        if field.is_vector_column:
            return self._vectors(field, index)
        if field.kind == "number":
            return examples.numbers(field.name, index)[:, np.newaxis]
        cells = examples.rows[index, examples.columns(field.name)]
        if field.name in self._categories:
            values = self._categories[field.name]
            at = np.minimum(np.searchsorted(values, cells), len(values) - 1)
            return np.where(values[at] == cells, at, np.nan).astype(np.float32)
        own = self._is_train[index, np.newaxis]
        counts = np.maximum(self._counts[examples.schema.table_name(field)][cells] - own, 0)
        if not field.is_list:
            return _rounded(counts)
        given = cells != PADDING_ROW
        length = given.sum(axis=1, keepdims=True)
        mean = np.where(given, counts, 0).sum(axis=1, keepdims=True) / np.maximum(length, 1)
        return np.concatenate([length.astype(np.float32), _rounded(mean)], axis=1)

    def _vectors(self, field: Field, index: np.ndarray) -> np.ndarray:
        """As `Examples.numbers`, for a column of vectors."""
        found = np.empty((len(index), field.size or 0), np.float32)
        start = 0
        for day in self._examples.days:
            inside = (index >= start) & (index < start + day.rows)
            if inside.any():
                found[inside] = day.vectors(field.name)[index[inside] - start]
            start += day.rows
        return found


def _rounded(counts: np.ndarray) -> np.ndarray:
    """float32 of the same shape: the nearest power of two to 1 + count."""
    return np.rint(np.log2(1 + counts)).astype(np.float32)
