"""Seeds that depend on names, not on what else was built in the process."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str) -> int:
    """A seed of its own for every named random choice of a run.

    The names are joined with a byte that no name holds, so ("a", "bc") and ("ab", "c") differ.

    Args:
        seed: of the run.
        names: what the seed is for, such as the layer's name and the variable's.

    Returns:
        an integer in [0, 2**31), the same on every machine and in every process.
    """
    text = "\x00".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1
