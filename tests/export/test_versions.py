"""Which version is served, in folders that nobody interrupts."""

import datetime
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dualdnn.errors import ConfigError, DataError, LockError, StaleChampionError
from dualdnn.export.champion import champion_of
from dualdnn.export.retention import prune
from dualdnn.export.versions import last_version, version_numbers, versions_of
from tests.tiny_versions import Store, write_version

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    """Versions 1 to 5; none was promoted."""
    store = Store(tmp_path)
    store.add(1, 2, 3, 4, 5)
    return store


@pytest.fixture
def candidate(store):
    """A version folder in a run folder."""
    path = store.root / "run" / "candidate"
    write_version(path, 1, text="candidate", metrics={"auc": 0.75}, git_revision="abc")
    return path


def damage(store, version):
    (store.folder / str(version) / "variables" / "variables.index").write_text("other weights")


def test_without_a_promotion_nothing_is_served(store):
    assert champion_of(store.folder) is None
    assert store.repair() is None
    assert set(store.statuses().values()) == {"candidate"}
    assert not (store.folder / "models.config").exists()
    assert champion_of(store.root / "nowhere") is None
    assert Store(store.root / "nowhere").repair() is None
    assert not (store.root / "nowhere").exists()


def test_a_promotion_says_what_why_and_since_when(store):
    store.promote(3, "better by 0.002")
    store.promote(5)
    text = json.loads((store.folder / "champion.json").read_text())
    since = datetime.datetime.strptime(text.pop("since"), "%Y-%m-%dT%H:%M:%SZ")
    assert abs(datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - since).seconds < 3600
    assert text == {"version": 5, "previous": 3, "earlier": [], "action": "promote",
                    "reason": "tested", "training_state": str(store.state / "5"), "canary": None}
    assert store.served() == ([5], {"stable": 5})
    assert store.statuses() == {5: "champion", 4: "candidate", 3: "previous", 2: "candidate",
                                1: "candidate"}


def test_the_champion_promoted_again_stays_as_it_is(store):
    first = store.promote(3, "first")
    assert store.promote(3, "again") == first == champion_of(store.folder)


def test_every_rollback_goes_further_back(store):
    for version in (1, 2, 4, 5):
        store.promote(version)
    assert [store.rollback().version for _ in range(3)] == [4, 2, 1]
    with pytest.raises(DataError, match=r"version 1 of .*/feed has no champion before it that is "
                                        r"still there\. Name a version: 1, 2, 3, 4, 5\."):
        store.rollback()
    assert champion_of(store.folder).version == 1


def test_one_command_back_to_any_version_and_forward_again(store):
    for version in (1, 2, 3, 4, 5):
        store.promote(version)
    back = store.rollback(2)
    assert (back.version, back.previous, back.action) == (2, 1, "rollback")
    assert back.reason == "rolled back from version 5"
    assert back.training_state == str(store.state / "2")
    forward = store.promote(5)
    assert (forward.version, forward.previous, forward.earlier) == (5, 2, [1])
    assert store.served() == ([5], {"stable": 5})


def test_a_version_has_one_place_among_the_earlier_champions(store):
    for _ in range(20):
        store.promote(4)
        store.promote(5)
    assert champion_of(store.folder).trail == [4]


def test_a_canary_is_served_beside_the_champion_until_the_next_change(store):
    store.promote(3)
    store.promote(4)
    store.set_canary(5)
    assert store.served() == ([4, 5], {"stable": 4, "canary": 5})
    assert store.statuses()[5] == "canary"
    assert champion_of(store.folder).previous == 3
    store.set_canary(None)
    assert store.served() == ([4], {"stable": 4})
    store.set_canary(5)
    store.promote(5)
    assert store.served() == ([5], {"stable": 5})
    with pytest.raises(DataError, match=r"version 5 of .*/feed is the champion\. Try another one"):
        store.set_canary(5)


def test_the_config_of_the_server_names_its_flag(store):
    store.promote(3)
    comment = "".join(line for line in (store.folder / "models.config").read_text().splitlines()
                      if line.startswith("#"))
    assert "--allow_version_labels_for_unavailable_models" in comment


BREAKS = {
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "has no manifest.json"),
    "half a manifest": (lambda path: (path / "manifest.json").write_text('{"sha'), "is not JSON"),
    "no digests": (lambda path: (path / "manifest.json").write_text("{}"), "lists no sha256"),
    "another weight": (lambda path: (path / "variables" / "variables.index").write_text("x"),
                       r"variables/variables\.index does not fit its sha256"),
    "a lost file": (lambda path: (path / "saved_model.pb").unlink(),
                    r"saved_model\.pb is missing"),
    "another's manifest": (
        lambda path: (path / "manifest.json").write_text(
            (path.parent / "4" / "manifest.json").read_text()), "manifest.json is of version 4"),
    "nothing to serve": (
        lambda path: (path / "manifest.json").write_text('{"version": 3, "sha256": {}}'),
        r"manifest\.json lists no saved_model\.pb"),
}


@pytest.mark.parametrize("damaged", BREAKS)
def test_a_version_that_is_not_as_published_is_never_served(store, damaged):
    breaks, message = BREAKS[damaged]
    store.promote(2)
    breaks(store.folder / "3")
    for serve in (store.promote, store.rollback, store.set_canary):
        with pytest.raises(DataError, match="version 3 of .* is not as it was published and is "
                                            rf"never promoted: .*{message}.*Restore its files"):
            serve(3)
    assert champion_of(store.folder).version == 2
    assert store.served() == ([2], {"stable": 2})
    (broken,) = [one for one in versions_of(store.folder) if one.version == 3]
    assert broken.status == "broken"
    assert re.search(message, " ".join(broken.faults))


def test_a_champion_that_broke_can_be_left(store):
    store.promote(4)
    store.promote(5)
    damage(store, 5)
    assert store.statuses()[5] == "broken"
    assert store.rollback().version == 4


def test_a_champion_whose_folder_is_gone_is_named_and_can_be_left(store, caplog):
    store.promote(4)
    store.promote(5)
    (store.folder / "5").rename(store.root / "elsewhere")
    assert store.repair().version == 5
    assert "names version 5, whose folder is gone. Restore it, or roll back." in caplog.text
    assert store.rollback().version == 4


def test_what_is_not_there_is_not_promoted(store):
    with pytest.raises(DataError, match=r"has no version 9; there are 1, 2, 3, 4, 5\."):
        store.promote(9)
    with pytest.raises(DataError, match=r"feed has no champion to roll back from\. Promote"):
        store.rollback()
    with pytest.raises(DataError, match=r"feed has no champion to try a canary beside"):
        store.set_canary(3)
    with pytest.raises(DataError, match="is not there: no version was ever published"):
        Store(store.root / "nowhere").promote(1)
    assert not (store.root / "nowhere").exists()


def test_a_version_without_training_state_is_served_with_a_warning(store, caplog):
    store.add(6, state=False)
    assert store.promote(6).training_state is None
    assert "version 6 has no training state at" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", '{"version": 3}', '{"version": "x"}', "null"])
def test_a_champion_file_of_somebody_else_is_refused(store, text):
    (store.folder / "champion.json").write_text(text)
    for command in (store.repair, store.rollback, lambda: store.promote(2)):
        with pytest.raises(DataError, match=r"champion\.json must be as a promotion writes it.*"
                                            "Restore it, or delete it and promote a version"):
            command()
    assert (store.folder / "champion.json").read_text() == text


def test_a_repair_mends_what_follows_from_the_champion_and_nothing_else(store):
    store.promote(2)
    store.promote(3)
    truth = (store.folder / "champion.json").read_text()
    config = (store.folder / "models.config").read_text()
    for wrong in (None, "", config.replace("3", "2")):
        (store.folder / "models.config").unlink()
        if wrong is not None:
            (store.folder / "models.config").write_text(wrong)
        store.repair()
        assert (store.folder / "models.config").read_text() == config
    assert (store.folder / "champion.json").read_text() == truth
    # What is right is not written again: a server that polls sees no change.
    before = (store.folder / "models.config").stat()
    store.repair()
    after = (store.folder / "models.config").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_repair_removes_training_states_without_a_version_and_half_deleted_folders(store):
    (store.folder / ".last_version").write_text("7")
    store.write_state(store.state / "7")  # a publish that was killed before its version
    store.write_state(store.state / "8")  # nobody here has given this number
    store.write_state(store.state / "stream")
    (store.folder / ".tmp-2-1-x" / "variables").mkdir(parents=True)
    (store.state / ".tmp-2-1-x").mkdir()
    store.repair()
    assert sorted(path.name for path in store.state.iterdir()) == [
        "1", "2", "3", "4", "5", "8", "stream"]
    assert version_numbers(store.folder) == [1, 2, 3, 4, 5]
    assert not (store.folder / ".tmp-2-1-x").exists()


def test_versions_are_described_by_their_manifest(store):
    store.add(6, created="2024-01-05T06:00:00Z", metrics={"auc": 0.7}, git_revision="abc",
              lineage={"days": ["2024-01-01", "2024-01-04"], "parent_version": 5})
    first = versions_of(store.folder)[0]
    assert (first.version, first.created, first.metrics) == (
        6, "2024-01-05T06:00:00Z", {"auc": 0.7})
    assert first.lineage == {"days": ["2024-01-01", "2024-01-04"], "git_revision": "abc",
                             "parent_version": 5}
    assert first.bytes == sum(path.stat().st_size for path in (store.folder / "6").rglob("*")
                              if path.is_file())


def test_only_numbers_are_versions(store):
    for name in ("007", "6-old", "-6", "six"):
        (store.folder / name).mkdir()
    (store.folder / "6").write_text("a file")
    assert version_numbers(store.folder) == [1, 2, 3, 4, 5]


def test_a_prune_keeps_the_newest_and_what_is_in_use(store):
    for version in (1, 2, 4):
        store.promote(version)
    store.set_canary(3)
    store.add(6, 7)
    assert [one.version for one in store.prune(2)] == [5, 1]
    assert store.statuses() == {7: "candidate", 6: "candidate", 4: "champion", 3: "canary",
                                2: "previous"}
    assert sorted(path.name for path in store.state.iterdir()) == ["2", "3", "4", "6", "7"]
    assert store.prune(2) == []
    # What the rollback target returned to is gone: further back it does not go.
    back = store.rollback()
    assert (back.version, back.previous) == (2, None)


def test_a_prune_keeps_what_a_student_went_on_from(store):
    store.add(6, 7, offline_version=2)
    for version in (2, 6, 7):
        store.promote(version)
    assert [version.version for version in store.prune(1)] == [5, 4, 3, 1]
    assert version_numbers(store.folder) == version_numbers(store.state) == [2, 6, 7]
    # Also of the version that a rollback returns to.
    store.add(8)
    store.promote(8)
    assert [version.version for version in store.prune(1)] == [6]
    assert version_numbers(store.folder) == version_numbers(store.state) == [2, 7, 8]


def test_a_version_that_was_lost_keeps_its_training_state(store):
    for version in (2, 3):
        store.promote(version)
    for version in (1, 2, 3):
        shutil.rmtree(store.folder / str(version))
    store.repair()
    # A killed prune has left the first; nothing of ours deletes champions.
    assert version_numbers(store.state) == [2, 3, 4, 5]


def test_a_candidate_replaces_no_other_champion_than_it_was_compared_with(store, candidate):
    store.promote(3)
    with pytest.raises(StaleChampionError, match="another champion by now, 3 instead of 2"):
        store.publish(replaces=2)
    assert (champion_of(store.folder).version, version_numbers(store.folder)[-1]) == (3, 5)
    assert store.publish(replaces=3).version == 6
    # Killed after the version stood, the same call still promotes it.
    store.promote(3)
    assert store.publish(replaces=5).version == 6


def test_a_number_is_never_given_again_after_a_prune(store, candidate):
    store.promote(1)
    store.prune(1)
    store.prune(1)
    assert version_numbers(store.folder) == [1, 5]
    store.promote(5)
    store.rollback()
    assert last_version(store.folder) == 5
    assert store.publish().version == 6


def test_a_prune_by_days_counts_from_now(store):
    now = datetime.datetime(2024, 3, 10, 12, tzinfo=datetime.UTC)
    for version, day in ((6, 1), (7, 3), (8, 9)):
        store.add(version, created=f"2024-03-{day:02d}T12:00:00Z")
    store.promote(6)
    for version in (1, 2, 3, 4, 5):  # made by hand, now: newer than that day
        (store.folder / str(version)).rename(store.root / f"old-{version}")

    def prune_at(keep_days, keep=None):
        return [one.version for one in prune(store.folder, store.state, keep=keep,
                                             keep_days=keep_days, now=now)]

    assert prune_at(7) == []  # exactly seven days are within
    assert prune_at(6.9, keep=2) == []  # by number
    assert prune_at(6.9) == [7]
    assert prune_at(0) == [8]
    assert version_numbers(store.folder) == [6]


def test_a_broken_version_takes_no_place_of_a_sound_one(store):
    damage(store, 4)
    store.promote(5)
    assert [one.version for one in store.prune(2)] == [2, 1]
    assert store.statuses() == {5: "champion", 4: "broken", 3: "candidate"}
    assert [one.version for one in store.prune(1)] == [4, 3]


@pytest.mark.parametrize(("policy", "message"), [
    ({}, "keep or keep_days must say which versions stay"),
    ({"keep": 0}, "keep must be >= 1 version, got 0"),
    ({"keep_days": -1}, "keep_days must be >= 0 days, got -1"),
])
def test_a_policy_that_keeps_nothing_is_refused(store, policy, message):
    with pytest.raises(ConfigError, match=message):
        prune(store.folder, store.state, **policy)


def test_an_accepted_candidate_becomes_the_champion(store, candidate):
    store.promote(5)
    champion = store.publish("gate: accepted")
    assert (champion.version, champion.previous, champion.reason) == (6, 5, "gate: accepted")
    assert Path(champion.training_state, "row_map").read_text() == "rows new"
    first = versions_of(store.folder)[0]
    assert (first.status, first.metrics, first.lineage) == (
        "champion", {"auc": 0.75}, {"git_revision": "abc", "parent_version": 5})
    # Published again it is the same version.
    assert store.publish("again") == champion
    assert version_numbers(store.folder) == [1, 2, 3, 4, 5, 6]
    assert (candidate / "manifest.json").exists()


def test_the_first_candidate_makes_the_folder(tmp_path):
    store = Store(tmp_path)
    write_version(store.root / "run" / "candidate", 1)
    assert store.publish().version == 1
    assert store.served() == ([1], {"stable": 1})


def test_the_training_state_stands_before_the_version(store, candidate, monkeypatch):
    seen = []
    rename = os.rename

    def noted(source, target):
        rename(source, target)
        seen.append(Path(target).relative_to(store.root).as_posix())

    replace = os.replace

    def noted_file(source, target):
        replace(source, target)
        seen.append(Path(target).relative_to(store.root).as_posix())

    monkeypatch.setattr(os, "rename", noted)
    monkeypatch.setattr(os, "replace", noted_file)
    store.publish()
    models = "exported_models/feed"
    assert [one for one in seen if ".tmp-" not in one] == [
        f"{models}/.last_version", "state/feed/6", f"{models}/6", f"{models}/champion.json",
        f"{models}/models.config"]


def test_a_broken_candidate_leaves_nothing(store, candidate):
    (candidate / "saved_model.pb").write_text("cut short")
    store.promote(5)
    with pytest.raises(DataError, match=r"is not as it was exported: saved_model\.pb does not fit "
                                        r"its sha256\. Nothing was published"):
        store.publish()
    assert champion_of(store.folder).version == 5
    assert version_numbers(store.folder) == version_numbers(store.state) == [1, 2, 3, 4, 5]


_LIMITED = """
import resource, signal, sys
from tests.tiny_versions import ACTIONS, Store

store = Store(sys.argv[1])
# Room for the lock's line and no more; without the signal a write fails as on a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
try:
    ACTIONS[sys.argv[2]](store)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("action", "message"), [
    ("promote", r".*champion\.json could not be replaced: File too large; the champion is "
                r"unchanged: 4\. Make room, or mend the disk, and repeat the command\."),
    ("rollback", r".*champion\.json could not be replaced: .*the champion is unchanged: 4"),
    ("publish", "version 6 could not be written below .*File too large.*Nothing was published"),
])
def test_a_disk_without_room_leaves_the_champion(store, candidate, action, message):
    store.promote(3)
    store.promote(4)
    before = store.looked_at()
    done = subprocess.run([sys.executable, "-c", _LIMITED, str(store.root), action], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    assert re.match(f"DataError {message}", done.stdout), done.stdout + done.stderr
    assert store.looked_at() == before
    # With room again the same command goes through.
    assert store.publish().version == (7 if action == "publish" else 6)


def test_a_registry_hears_of_every_change_after_the_champion_stands(store):
    heard = []

    class Listener:
        def follow(self, *, name, versions, champion):
            heard.append((name, sorted(versions), champion,
                          champion_of(store.folder).version, store.served()[0]))

    store.registry = Listener()
    store.promote(2)
    store.promote(4)
    (store.folder / "1" / "manifest.json").unlink()
    store.prune(1)
    known = [1, 2, 3, 4, 5]
    assert heard == [
        ("feed", known, 2, 2, [2]),
        ("feed", known, 2, 2, [2]), ("feed", known, 4, 4, [4]),
        ("feed", known[1:], 4, 4, [4]), ("feed", [2, 4, 5], 4, 4, [4])]


_HOLDER = """
import sys
from pathlib import Path
from dualdnn.storage import lock
with lock(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_writer_a_model(store, candidate, monkeypatch):
    monkeypatch.setattr("dualdnn.export.promotion.LOCK_SECONDS", 0.2)
    store.promote(3)
    store.promote(4)
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(store.folder / ".lock")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        commands = (lambda: store.promote(5), store.rollback, lambda: store.prune(1), store.repair,
                    store.publish, lambda: store.set_canary(5))
        for command in commands:
            with pytest.raises(LockError, match=rf"is locked by pid {holder.pid}, started \d{{4}}"):
                command()
        # A reader waits for nobody, and another model is another lock.
        assert champion_of(store.folder).version == 4
        other = Store(store.root / "other")
        other.add(1)
        assert other.promote(1).version == 1
        holder.stdin.close()
    assert store.promote(5).version == 5


def test_a_repair_says_nothing_where_all_is_well(store, caplog):
    store.promote(3)
    with caplog.at_level(logging.INFO):
        store.repair()
    assert caplog.text == ""
