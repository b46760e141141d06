"""dualdnn: train a heavy ranking teacher and a light student together, serve the student.

Importing the package selects the Keras 2 API (``tf_keras``), which
tensorflow-recommenders needs. That choice has to be made before TensorFlow's
Keras is first touched; nothing else in the package mentions it.
"""

import os
import sys

__version__ = "0.4.0"

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# TensorFlow binds its Keras at first use, not at import: only that can have come too early.
if "tensorflow" in sys.modules:
    _model = sys.modules["tensorflow"].keras.Model
    if not _model.__module__.startswith("tf_keras"):
        raise ImportError(
            "dualdnn needs the Keras 2 API, but tensorflow.keras was used as Keras 3 before "
            f"(it is {_model.__module__}). Import dualdnn first, or set TF_USE_LEGACY_KERAS=1 "
            "in the environment."
        )
