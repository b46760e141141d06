"""The errors a user of dualdnn can cause.

Every message says what was expected, what came and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable


class DualDNNError(Exception):
    """Base of every error that dualdnn raises on purpose."""


class DataError(DualDNNError):
    """The data on disk is not what the schema or the job promised."""


class ConfigError(DualDNNError):
    """One or more mistakes in the configuration, found before data is read.

    Attributes:
        mistakes: every mistake, one sentence each.
    """

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes = [mistakes] if isinstance(mistakes, str) else list(mistakes)
        if len(self.mistakes) == 1:
            message = self.mistakes[0]
        else:
            numbered = [f"({i}) {m}" for i, m in enumerate(self.mistakes, start=1)]
            message = f"{len(self.mistakes)} mistakes in the configuration: " + " ".join(numbered)
        super().__init__(message)


class LockError(DualDNNError):
    """Another process holds a lock that this job needs."""


class StaleChampionError(DualDNNError):
    """Another version was published since a candidate was compared with the champion."""


class RejectedError(DualDNNError):
    """The gate has rejected a new version; nothing was published."""


class NonFiniteError(DualDNNError):
    """A loss or gradient became NaN or infinite."""
