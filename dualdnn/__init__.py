"""dualdnn: train a heavy ranking teacher and a light student together, serve the student.

Importing the package selects the Keras 2 API (``tf_keras``), which
tensorflow-recommenders needs. That choice has to be made before TensorFlow's
Keras is first touched; nothing else in the package mentions it.
"""

import os
import sys

__version__ = "0.1.0"

if "keras" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
    raise ImportError(
        "dualdnn needs the Keras 2 API, but Keras 3 was imported first in this process. "
        "Import dualdnn before tensorflow.keras and keras, or set TF_USE_LEGACY_KERAS=1 "
        "in the environment."
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
