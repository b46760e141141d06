"""Two jobs at once, and a disk that is full when a day is half done."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from pipelines import retrain
from pipelines.entry import start
from tests.daily_feed import Feed

DAYS = ["2024-01-05", "2024-01-06"]
NEXT = ("finetune", f"window.as_of={DAYS[1]}")


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    return Feed(tmp_path_factory.mktemp("site") / "site")


# The tests of this file but the last are one story, in this order.

def test_of_two_jobs_at_once_the_second_names_the_first(feed, forks, monkeypatch, capsys):
    command = ["retrain", *feed.given, f"window.as_of={DAYS[0]}"]
    lock = feed.state / ".daily.lock"
    with ThreadPoolExecutor() as threads:
        first = threads.submit(forks.run, feed.folder, *command)
        while not (lock.exists() and lock.read_text()) and not first.done():
            time.sleep(0.02)
        holder = lock.read_text()
        monkeypatch.chdir(feed.folder)
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as second:
            start("retrain", retrain.main)
        assert not first.done(), "the second came too late to meet the first"
        said = capsys.readouterr().err
        assert second.value.code == 1, said
        found = re.search(r"error: .*\.daily\.lock is locked by (pid \d+, started "
                          r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\. .*wait for it to end or stop it\.",
                          said.splitlines()[-1])
        assert found[1] == holder.strip()
        assert first.result()["code"] == 0, first.result()["said"]
    feed.check_agreement(DAYS[:1])


# A number that a failed publish has used is not given again.
@pytest.mark.parametrize(("place", "write"), [
    ("checkpoints/.tmp-step", 3), ("state/my_feed/.tmp-2-", 2),
    ("exported_models/my_feed/.tmp-3-", 2), (".tmp-champion", 1)],
    ids=["checkpoint", "state of a version", "version", "champion"])
def test_a_full_disk_ends_the_job_and_leaves_the_champion(feed, forks, place, write):
    ended = forks.run(feed.folder, NEXT[0], *feed.given, NEXT[1], since=place,
                      full_at=write)
    assert ended["code"] == 1, ended["said"]
    last = ended["said"].splitlines()[-1]
    assert "No space left on device" in last
    assert re.search("[Mm]ake room", last)
    assert feed.check_standing() == 1


def test_with_room_the_same_command_completes(feed, forks):
    ended = forks.run(feed.folder, NEXT[0], *feed.given, NEXT[1])
    assert ended["code"] == 0, ended["said"]
    feed.check_agreement(DAYS)


@pytest.mark.prove
@pytest.mark.parametrize(("place", "small"), [("state", "200k")])
def test_a_small_disk_and_a_larger_one(forks, tmp_path, place, small):
    """A file system of its own, that the kernel fills up; needs the right to mount."""
    feed = Feed(tmp_path / "site")
    disk = feed.folder / place
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={small}", "tmpfs", str(disk)],
                           capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"no right to mount: {mount.stderr.strip()}")
    try:
        ended = forks.run(feed.folder, "retrain", *feed.given, f"window.as_of={DAYS[0]}")
        assert ended["code"] == 1, ended["said"]
        assert re.search("No space left on device.*[Mm]ake room",
                         ended["said"].splitlines()[-1])
        assert feed.check_standing() == 0
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        ended = forks.run(feed.folder, "retrain", *feed.given, f"window.as_of={DAYS[0]}")
        assert ended["code"] == 0, ended["said"]
        feed.check_agreement(DAYS[:1])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
