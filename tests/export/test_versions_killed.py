"""Commands killed at every point; then the next command, then the same one again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_versions import ACTIONS

ROOT = Path(__file__).parents[2]
OLD, KNOWN = 4, [1, 2, 3, 4, 5]
# Champion after the command, and the one that a rollback returns to.
NEW = {"promote": (5, 4), "rollback": (3, 2), "rollback_to": (1, 3), "canary": (4, 3),
       "prune": (4, 3), "publish": (6, 4)}


def killed(root, action, *options):
    done = subprocess.run(
        [sys.executable, "-m", "tests.tiny_versions", str(root), action, *options], cwd=ROOT,
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_reader(seen):
    """Straight after the kill: whoever follows champion.json finds a sound version."""
    assert "broken" not in seen["statuses"].values()
    assert seen["statuses"][str(seen["champion"])] == "champion"
    served, labels = seen["served"]
    assert set(served) == set(labels.values())
    # Neither the server nor a rollback asks for what is gone, and a version has its state.
    known = {int(version) for version in seen["statuses"]}
    assert {*served, seen["previous"]} <= known <= set(seen["states"])


def check_agreement(seen):
    """After any command: one champion, and everything follows it."""
    check_reader(seen)
    champion = seen["champion"]
    assert seen["served"][1]["stable"] == champion
    assert list(seen["statuses"].values()).count("champion") == 1
    known = sorted(map(int, seen["statuses"]))
    assert (seen["states"], seen["left"]) == (known, [])
    assert seen["training_state"].endswith(f"/state/feed/{champion}")
    if seen["registered"]:
        assert seen["registered"] == [champion, known]


def check(found, action):
    *kills, whole = found
    assert all(one["killed"] for one in kills)
    assert not whole["killed"]
    assert (whole["after"]["champion"], whole["after"]["previous"]) == NEW[action]
    for one in found:
        check_reader(one["before"])
        check_agreement(one["after"])
        # The champion is chosen by its file's rename alone: a repair never changes it.
        for key in ("champion", "previous", "training_state"):
            assert one["after"][key] == one["before"][key]
        assert (one["after"]["champion"], one["after"]["previous"]) in ((OLD, 3), NEW[action])
        if "again" in one:
            check_agreement(one["again"])
            champion, previous = one["again"]["champion"], one["again"]["previous"]
            numbers = {int(version) for version in one["again"]["statuses"]}
            if action == "publish":  # a number used up by a kill is not given again
                assert champion in (6, 7)
                assert (numbers, previous) == ({*KNOWN, champion}, OLD)
            else:
                assert (champion, previous) == NEW[action]
                assert numbers == ({3, 4, 5} if action == "prune" else set(KNOWN))


@pytest.mark.parametrize(("action", "options", "fewest"), [
    ("promote", ["--stride", "2"], 4),
    ("publish", ["--stride", "5"], 6),
    ("prune", ["--stride", "4"], 4),
])
def test_a_kill_at_some_writes(tmp_path, action, options, fewest):
    found = killed(tmp_path, action, *options)
    assert len(found) > fewest
    check(found, action)


@pytest.mark.prove
@pytest.mark.parametrize("options", [["--registry"], ["--lines", "--stride", "3"]], ids=" ".join)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_at_every_point(tmp_path, action, options):
    found = killed(tmp_path, action, *options)
    assert len(found) >= 10
    check(found, action)
    if action in ("promote", "publish"):
        # The kills fell on both sides of the change.
        assert {one["after"]["champion"] for one in found} == {OLD, NEW[action][0]}
