"""A published version that answers as a server would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from dualdnn.data.examples import Examples
from dualdnn.errors import DataError
from dualdnn.export.saved_model import encoded_inputs


class ServedStudent:
    """The signature `encoded` of a SavedModel in this process."""

    def __init__(self, folder: Path) -> None:
        """Load a version.

        Args:
            folder: of the version.

        Raises:
            DataError: it cannot be loaded.
        """
        try:
            self._model = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise DataError(f"{folder} cannot be loaded: {error}. Restore its files, or roll back "
                            "to another version.") from error
        self._encoded = self._model.signatures["encoded"]

    def logits(self, examples: Examples, index: np.ndarray) -> np.ndarray:
        """(n,) float32, as they are served.

        Args:
            examples: opened with the version's own row map.
            index: (n,) row numbers.
        """
        inputs = encoded_inputs(*examples.public_inputs(index))
        answer = self._encoded(**{name: tf.constant(value) for name, value in inputs.items()})
        return answer["logit"].numpy()
