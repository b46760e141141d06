"""What hears of a training passes it on while it goes."""

import io

from rich.console import Console

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.tracking import TensorBoardWriter
from pipelines.listen import TrainingListener


class Store:
    """Stands for mlflow."""

    def __init__(self):
        self.queued, self.sent = [], []

    def add(self, name, value, step):
        self.queued.append((name, step))

    def flush(self):
        self.sent += self.queued
        self.queued = []


def test_an_evaluation_is_in_mlflow_at_the_next_step(tmp_path):
    """A killed run does not come to its end, and what it had recorded is not recorded again."""
    store = Store()
    with TrainingListener(Console(file=io.StringIO()), TensorBoardWriter(tmp_path),
                          store) as listener:
        for step, tower in ((3, "teacher"), (6, "light.alone")):
            listener.on_step(step, 9)
            listener.on_record({"tower": tower, "part": "valid", "metric": "log_loss",
                                "value": 0.5, "step": step})
            listener.on_step(step + 1, 9)
            assert store.sent[-1] == (f"{tower}/valid/log_loss", step)
        listener.on_record({"tower": "teacher", "part": "train", "metric": "total", "value": 0.5,
                            "step": 9})
    assert store.sent[-1] == ("teacher/train/total", 9)
