import errno
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from dualdnn import storage
from dualdnn.errors import LockError
from dualdnn.storage import (
    atomic_file,
    atomic_folder,
    link_tree,
    lock,
    remove_leftovers,
    sha256_of_file,
    write_json,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_folder(path, text):
    with atomic_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "a").write_text(text)
        (folder / "sub" / "b").write_text(text)


def read_folder(path):
    return {(path / "a").read_text(), (path / "sub" / "b").read_text()}


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file"]


def test_a_folder_appears_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists()
    assert names(path) == ["a"]
    assert names(path.parent) == ["folder"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    def fail():
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("new")
            raise RuntimeError("stop")

    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    def fail():
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "a").write_text("new")
            raise RuntimeError("stop")

    write_folder(tmp_path / "folder", "old")
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert read_folder(tmp_path / "folder") == {"old"}
    assert names(tmp_path) == ["folder"]


def test_a_folder_replaces_the_old_one_entirely(tmp_path):
    write_folder(tmp_path / "folder", "old")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "c").write_text("new")
    assert names(tmp_path / "folder") == ["c"]
    assert names(tmp_path) == ["folder"]


def test_a_folder_replaces_what_is_not_a_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("old")
    for name in ("link", "file"):
        write_folder(tmp_path / name, "new")
        assert read_folder(tmp_path / name) == {"new"}
    assert names(tmp_path) == ["elsewhere", "file", "link"]
    assert names(tmp_path / "elsewhere") == ["kept"]


def test_a_folder_is_replaced_where_the_system_cannot_swap_names(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_swapped", lambda one, other: False)
    write_folder(tmp_path / "folder", "old")
    write_folder(tmp_path / "folder", "new")
    assert read_folder(tmp_path / "folder") == {"new"}
    assert names(tmp_path) == ["folder"]


# Runs `act` in forks of itself and kills each one line of code later than the one before, until
# one gets through; prints after each what stands on the disk, before and after the clean-up.
KILL_AT_EVERY_LINE = """
import json, os, signal, sys
from pathlib import Path
from dualdnn.storage import atomic_file, atomic_folder, remove_leftovers

kind, folder = sys.argv[1], Path(sys.argv[2])
target = folder / "target"

def write(text):
    if kind == "file":
        with atomic_file(target) as path:
            path.write_text(text)
        return
    with atomic_folder(target) as path:
        (path / "sub").mkdir()
        (path / "a").write_text(text)
        (path / "sub" / "b").write_text(text)

def read():
    if not target.exists():
        return None
    if kind == "file":
        return [target.read_text()]
    return [(target / name).read_text() for name in ("a", "sub/b")]

def killed_at_line(last):
    seen = 0
    def tracer(frame, event, argument):
        nonlocal seen
        # Lines in between change nothing on the disk.
        if not frame.f_code.co_filename.endswith(("storage.py", "shutil.py", "<string>")):
            return None
        seen += event == "line"
        if seen >= last:
            os.kill(os.getpid(), signal.SIGKILL)
        return tracer
    child = os.fork()
    if child == 0:
        sys.settrace(tracer)
        write("new")
        sys.settrace(None)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0

found = []
for old in (None, "old"):
    last = 1
    while True:
        if kind == "file":
            target.unlink(missing_ok=True)
        elif target.exists():
            target.rename(folder / f".tmp-{last}-{old}")
            remove_leftovers(folder)
        if old:
            write(old)
        killed = killed_at_line(last)
        before = read()
        remove_leftovers(folder)
        found.append([old, killed, before, read(), sorted(p.name for p in folder.iterdir())])
        if not killed:
            break
        last += 1
print(json.dumps(found))
"""


@pytest.mark.parametrize(("kind", "fewest_lines"), [("file", 20), ("folder", 50)])
def test_a_kill_at_any_line_leaves_the_old_or_the_new_state(tmp_path, kind, fewest_lines):
    run = subprocess.run([sys.executable, "-c", KILL_AT_EVERY_LINE, kind, str(tmp_path)],
                         capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    files = 1 if kind == "file" else 2
    assert len(found) > 2 * fewest_lines
    for old, killed, before, after, left in found:
        assert before in ([old] * files if old else None, ["new"] * files)
        assert after == before
        assert left == (["target"] if after else [])
        assert killed or after == ["new"] * files
    # Both outcomes were seen, with and without an old state.
    assert {(old, (after or [None])[0]) for old, _, _, after, _ in found} == {
        (None, None), (None, "new"), ("old", "old"), ("old", "new")}


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-file-1-0").write_text("half")
    (tmp_path / ".tmp-folder-1-0" / "sub").mkdir(parents=True)
    (tmp_path / "kept" / ".tmp-deep").mkdir(parents=True)
    (tmp_path / ".lock").touch()
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "kept")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".lock", "kept"]
    assert names(tmp_path / "kept") == [".tmp-deep"]
    remove_leftovers(tmp_path / "not there")


def test_json_refuses_what_json_cannot_say_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"auc": 0.5, "name": "é"})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "a.json", {"auc": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"auc": 0.5, "name": "é"}
    assert names(tmp_path) == ["a.json"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "abc").write_bytes(b"abc")
    # Both from FIPS 180-4's examples.
    assert sha256_of_file(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")
    assert sha256_of_file(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until it is killed."""
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from dualdnn.storage import lock
        with lock(Path({str(tmp_path / "lock")!r}), wait=False):
            print("held", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_held_by_another_process_names_it_and_its_start(tmp_path, holder):
    year = time.strftime("%Y", time.gmtime())
    message = (rf"{re.escape(str(tmp_path))}/lock is locked by pid {holder.pid}, started "
               rf"{year}-\d\d-\d\dT\d\d:\d\d:\d\dZ\. .*wait for it to end or stop it\.$")
    with pytest.raises(LockError, match=message), lock(tmp_path / "lock", wait=False):
        pass


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path, holder):
    holder.kill()
    holder.wait()
    with lock(tmp_path / "lock", wait=False):
        assert (tmp_path / "lock").read_text().startswith(f"pid {os.getpid()}, started ")


def test_a_lock_can_be_waited_for(tmp_path, holder):
    got = threading.Event()

    def wait_for_it():
        with lock(tmp_path / "lock", wait=True):
            got.set()

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    assert not got.wait(0.2)
    holder.kill()
    waiting.join(timeout=30)
    assert got.is_set()


def test_a_lock_is_waited_for_so_many_seconds(tmp_path, holder):
    began = time.monotonic()
    with pytest.raises(LockError, match="is locked by pid"), lock(tmp_path / "lock", wait=0.3):
        pass
    assert time.monotonic() - began >= 0.3
    threading.Timer(0.2, holder.kill).start()
    with lock(tmp_path / "lock", wait=60.0):
        assert (tmp_path / "lock").read_text().startswith(f"pid {os.getpid()}, started ")


def test_linked_files_share_their_bytes_and_are_copied_to_another_disk(tmp_path, monkeypatch):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "file").write_text("bytes")
    (tmp_path / "b").mkdir()
    link_tree(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "deep" / "file").samefile(tmp_path / "b" / "deep" / "file")

    def elsewhere(source, target):
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", elsewhere)
    link_tree(tmp_path / "a", tmp_path / "c")
    copied = tmp_path / "c" / "deep" / "file"
    assert (copied.read_text(), copied.samefile(tmp_path / "a" / "deep" / "file")) == (
        "bytes", False)

    def broken(source, target):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(shutil.Error, match="no room"):
        link_tree(tmp_path / "a", tmp_path / "d")


def test_a_lock_is_free_after_the_block_and_after_an_error(tmp_path):
    with lock(tmp_path / "deep" / "lock", wait=False):
        pass
    with pytest.raises(RuntimeError, match="stop"), lock(tmp_path / "deep" / "lock", wait=False):
        raise RuntimeError("stop")
    with lock(tmp_path / "deep" / "lock", wait=False):
        pass
