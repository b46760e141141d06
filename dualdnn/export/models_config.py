"""The configuration that TensorFlow Serving reads: which versions to load, under which label."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

STABLE, CANARY = "stable", "canary"
_HEADER = """\
# Derived from champion.json, and written anew by every command that changes it: edit nothing here.
# tensorflow_model_server --model_config_file=THIS_FILE --model_config_file_poll_wait_seconds=60 \\
#     --allow_version_labels_for_unavailable_models
# Without the last flag the server refuses a label for a version that it has not loaded yet.
"""


def models_config(folder: Path, *, champion: int, canary: int | None = None) -> str:
    """A `ModelServerConfig` as text protobuf.

    Only the versions named here are loaded, so that a candidate, which has the highest number,
    is never served by accident. Each of them has a label and no other version has one.

    Args:
        folder: `exported_models/NAME`; the model is served as NAME.
        champion: labelled `stable`.
        canary: labelled `canary`; None where nothing is on trial.
    """
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name = folder.name
    model.base_path = str(folder.absolute())
    model.model_platform = "tensorflow"
    labels = {STABLE: champion} if canary is None else {STABLE: champion, CANARY: canary}
    model.model_version_policy.specific.versions.extend(labels.values())
    for label, version in labels.items():
        model.version_labels[label] = version
    return _HEADER + text_format.MessageToString(config)
