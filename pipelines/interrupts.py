"""An interrupt that no callback of a library can swallow.

Raised inside a callback that C++ calls, a KeyboardInterrupt is printed and forgotten, or ends the
process by a fault. While towers are trained it waits for the end of the step.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_asked = False
_waits = False


def listen() -> None:
    """Take interrupts over from Python; where they are ignored (nohup) they stay so."""
    global _asked, _waits
    _asked = _waits = False
    if (threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        signal.signal(signal.SIGINT, _ask)


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    if _waits and not _asked:  # a second one does not wait
        _asked = True
        return
    raise KeyboardInterrupt


def wait_for_steps(yes: bool) -> None:
    """From now on interrupts wait for `pass_on`, or no longer do."""
    global _waits
    _waits = yes


def pass_on() -> None:
    """Between two steps: raise the interrupt that waits.

    Raises:
        KeyboardInterrupt: there is one.
    """
    global _asked
    if _asked:
        _asked = False
        raise KeyboardInterrupt
