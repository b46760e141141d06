"""The source `simulated_feed`: a short-video log whose true click probabilities are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dualdnn.data.simulator.settings import FeedSettings
from dualdnn.data.simulator.writer import prepare_feed
from dualdnn.errors import ConfigError

_MOST_THREADS = 256


@dataclass(frozen=True, kw_only=True)
class SimulatedFeed(FeedSettings):
    """A feed of `FeedSettings`, written where the lake should be.

    Attributes:
        threads: files written at the same time; changes nothing in them.
    """

    threads: int = 2

    def mistakes(self, lake: Path) -> list[str]:
        """What is wrong with the values, one sentence each; writes nothing.

        Args:
            lake: where it will be written.
        """
        found = [f"data.source.{mistake}" for mistake in self.value_mistakes()]
        if isinstance(self.threads, bool) or not isinstance(self.threads, int) \
                or not 1 <= self.threads <= _MOST_THREADS:
            found.append(f"data.source.threads must be a whole number from 1 to {_MOST_THREADS}, "
                         f"got {self.threads!r}.")
        return found

    def prepare(self, lake: Path) -> None:
        """Write the lake, unless it is there already with the same settings.

        Raises:
            ConfigError: the values of this source are wrong.
            DataError: `lake` belongs to someone else, or cannot be written.
        """
        if found := self.mistakes(lake):
            raise ConfigError(found)
        prepare_feed(self, lake, threads=self.threads)
