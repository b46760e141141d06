"""The jobs: `python -m pipelines.JOB`. Thin: they wire the library to hydra and mlflow."""

import os
import sys
import tempfile
from importlib import import_module


def _import_tensorflow_quietly() -> None:
    """Keep TensorFlow's start-up chatter off stderr, whose last line belongs to the job.

    It is written by native code before any log level is read, so the file descriptor itself is
    turned away, and given back with what was said where the import fails.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import_module("dualdnn")  # first: it chooses the Keras API
            import_module("tensorflow").config.list_physical_devices("GPU")
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_import_tensorflow_quietly()
