"""How far an ingest is, in a few lines a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 15.0
OnProgress = Callable[[int, int, int], None]


class IngestProgress:
    """Logs bytes, rows, speed and the time left, at most every 15 seconds.

    Args:
        name: of the data set.
        total_bytes: of all raw files.
        rows: written by an interrupted ingest before this one.
        on_progress: called after every block with bytes read, `total_bytes`, rows written.
    """

    def __init__(self, *, name: str, total_bytes: int, rows: int,
                 on_progress: OnProgress | None = None) -> None:
        self._name, self._total_bytes, self._on_progress = name, total_bytes, on_progress
        self._rows = self._rows_before = rows
        self._started = self._last = time.monotonic()

    def block(self, done_bytes: int, rows: int) -> None:
        """A block is done: `done_bytes` of all files are read, `rows` more are written."""
        self._rows += rows
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            seconds = now - self._started
            left = seconds * (self._total_bytes - done_bytes) / max(done_bytes, 1)
            _log.info("%s: %.2f of %.2f GB read, %s rows, %s rows a second, about %.0f s left",
                      self._name, done_bytes / 1e9, self._total_bytes / 1e9, f"{self._rows:,}",
                      f"{(self._rows - self._rows_before) / seconds:,.0f}", left)
        if self._on_progress:
            self._on_progress(done_bytes, self._total_bytes, self._rows)
