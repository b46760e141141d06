"""A validation part on which towers are as good as a script says."""

import numpy as np

from tests.tiny_run import weights_of


class ScriptedValidation:
    """Answers as well as the script says, and remembers what it was asked to score.

    A logit of `quality` for clicks and `-quality` for the others: the higher, the lower the log
    loss. Log loss and not AUC, which would be 1 for all of them.
    """

    def __init__(self, trainer, script):
        self.trainer, self.script = trainer, script
        self.labels = trainer.examples.labels[trainer.examples.split.valid]
        self.seen = {tower: [] for tower in script}

    def __call__(self, rows, towers, dense=None, scores=None):
        answers = {}
        for tower in towers:
            quality = self.script[tower][len(self.seen[tower])]
            self.seen[tower].append(weights_of(self.trainer.model, tower))
            answers[tower] = (quality * (2 * self.labels - 1)).astype(np.float32)
        return answers
