"""Writing to disk so that a kill at any moment leaves the old state or the new one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualdnn.errors import LockError

_TEMPORARY = ".tmp-"
# Of Linux' renameat2(2): relative paths start at the working directory; swap two names.
_AT_WORKING_DIRECTORY = -100
_RENAME_EXCHANGE = 2
_ASK_AGAIN_SECONDS = 0.05


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """A hidden sibling of `path`; on the same file system, so that a rename is atomic."""
    return path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success every file is synced and the folder renamed to `path`.

    An existing folder at `path` is replaced in one step: the two swap their names, then the old
    one is deleted. Where the system cannot swap names (not Linux, some network drives) the old
    one is moved aside first, and a kill between the two renames leaves neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        for root, _, files in os.walk(temporary):
            for name in files:
                _sync(Path(root, name))
            _sync(Path(root))
        if not os.path.lexists(path):
            os.rename(temporary, path)
        elif not _swapped(temporary, path):
            aside = temporary_name(path)
            os.rename(path, aside)
            os.rename(temporary, path)
            _remove(aside)
        _sync(path.parent)
    finally:
        _remove(temporary)


def _swapped(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_WORKING_DIRECTORY, names[0], _AT_WORKING_DIRECTORY, names[1],
                 _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _remove(path: Path) -> None:
    """Delete a file or a folder; what is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_in_order(*paths: Path) -> None:
    """Take each name away by one rename, in this order, then delete what had it.

    A kill leaves a folder whole under its name, or not there: what is half deleted has a
    temporary name, which `remove_leftovers` of its parent clears away.
    """
    aside = []
    for path in paths:
        if os.path.lexists(path):
            aside.append(temporary_name(path))
            os.rename(path, aside[-1])
            _sync(path.parent)
    for path in aside:
        _remove(path)


def link_file(source: Path, target: Path) -> None:
    """Give a file that is never changed a second name; on another disk it is copied."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copy2(source, target)


def link_tree(source: Path, target: Path) -> None:
    """`link_file` for all files of a folder, below `target`, an existing one."""
    shutil.copytree(source, target, dirs_exist_ok=True,
                    copy_function=lambda one, other: link_file(Path(one), Path(other)))


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders that a killed job left directly in `folder`.

    Only call it while holding the lock of whoever writes there.
    """
    if folder.is_dir():
        for path in folder.glob(f"{_TEMPORARY}*"):
            _remove(path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON by one rename. NaN and infinity are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of_file(path: Path) -> str:
    """Hex digest of the file's bytes, read in bounded memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock(path: Path, *, wait: bool | float) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel releases it if the process dies.

    Args:
        path: the lock file; made if missing, never deleted.
        wait: block until the lock is free instead of raising, or for so many seconds at most.

    Raises:
        LockError: another process holds it, longer than `wait` allows. The message names its
            process id and start time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            _acquire(file.fileno(), wait)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "an unknown process"
            raise LockError(
                f"{path} is locked by {holder}. Expected no other job to be running there; "
                "wait for it to end or stop it."
            ) from error
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        file.truncate(0)
        file.write(f"pid {os.getpid()}, started {started}\n")
        file.flush()
        yield


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Wait for an exclusive lock on a folder itself; the kernel releases it if the process dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _acquire(descriptor, True)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, wait: bool | float) -> None:
    if wait is True:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(_ASK_AGAIN_SECONDS)
