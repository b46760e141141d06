"""An mlflow database that is migrated already: a copy of it spares a job the first opening."""

import functools
import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient

from dualdnn.tracking import default_uri


@functools.cache
def _migrated():
    """Made once a process, by mlflow itself."""
    outputs = Path(tempfile.mkdtemp(prefix="mlflow-"))
    MlflowClient(tracking_uri=default_uri(outputs)).search_experiments()
    return outputs / "mlflow.db"


def put_store(outputs):
    """Put a database into a new folder of outputs."""
    outputs.mkdir(parents=True)
    shutil.copy(_migrated(), outputs / "mlflow.db")
