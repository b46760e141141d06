"""Pseudonyms of personal values: what is signed, stored and sent in their place.

A sign alone does not protect a value: whoever guesses the value can sign it as well. A pseudonym
cannot be guessed without the key, which is in the environment and in no file. Whoever asks a
served model sends the pseudonym; the exported graph holds no key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from dualdnn.errors import ConfigError

KEY_VARIABLE = "DUALDNN_PII_KEY"
_LEAST_BYTES, _MOST_BYTES = 16, 64
_PSEUDONYM_BYTES = 16


def pseudonym(value: str, key: bytes) -> str:
    """Keyed BLAKE2b (RFC 7693) of the value's UTF-8 bytes: 16 bytes as 32 hex digits.

    Args:
        value: as it would stand in the lake; integers in decimal. "" is missing and stays "".
        key: 16 to 64 bytes, the same for training and for those who ask the served model.
    """
    if not value:
        return ""
    return hashlib.blake2b(value.encode(), key=key, digest_size=_PSEUDONYM_BYTES).hexdigest()


def pseudonyms(values: Sequence[str], key: bytes) -> list[str]:
    """The pseudonym of each value."""
    return [pseudonym(value, key) for value in values]


def key_from_environment() -> bytes:
    """The key in the environment variable `DUALDNN_PII_KEY`, as UTF-8.

    Raises:
        ConfigError: it is unset, too short or too long; the message does not show it.
    """
    key = os.environ.get(KEY_VARIABLE, "").encode()
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        problem = f"has {len(key)} bytes" if key else "is not set"
        raise ConfigError(
            f"fields marked pii need a key of {_LEAST_BYTES} to {_MOST_BYTES} bytes in the "
            f"environment variable {KEY_VARIABLE}, but it {problem}. Set it to the same secret "
            "in training and wherever pseudonyms are made."
        )
    return key


def key_fingerprint(key: bytes) -> str:
    """Tells keys apart without telling a key: data of two keys never mix."""
    return hashlib.blake2b(b"fingerprint of the key", key=key, digest_size=8).hexdigest()
