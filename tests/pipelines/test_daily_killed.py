"""Daily jobs killed at their writes and at random times; the same command completes the day."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dualdnn.export.champion import champion_of
from dualdnn.export.versions import faults_of, read_manifest, version_numbers
from tests.daily_feed import Feed

ROOT = Path(__file__).resolve().parents[2]
JOB = ("retrain", "window.as_of=2024-01-05")
NEXT = ("finetune", "window.as_of=2024-01-06")


@pytest.fixture
def feed(tmp_path):
    return Feed(tmp_path)


def started(feed, module, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=feed.folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)


def run(feed, job, *overrides):
    process = started(feed, f"pipelines.{job}", *feed.given, *overrides)
    out, err = process.communicate()
    return process.returncode, out + err


def check_standing(feed):
    """Whoever follows champion.json finds a sound version with a training state; or none."""
    champion = champion_of(feed.exported)
    if champion is None:
        return 0
    assert faults_of(feed.exported / str(champion.version)) == []
    assert (feed.state / str(champion.version) / "weights" / "arrays.json").exists()
    return champion.version


def check_agreement(feed, days):
    """After a command that was done: one version a day, and everything agrees."""
    version = check_standing(feed)
    numbers = version_numbers(feed.exported)
    assert [read_manifest(feed.exported / str(n))["as_of"] for n in numbers] == days
    assert version == numbers[-1]
    states = sorted(int(path.name) for path in feed.state.iterdir() if path.name.isdecimal())
    assert states == numbers
    assert f"versions: {version}\n" in (feed.exported / "models.config").read_text()
    for folder in (feed.exported, feed.state, *(feed.folder / "outputs").glob("*/*")):
        assert not list(folder.glob(".tmp-*"))
    outcomes = [json.loads(path.read_text())["version"]
                for path in sorted(feed.state.glob("outcomes/*/*.json"))]
    assert sorted(outcomes) == numbers


def killed_at(feed, job, point, *overrides):
    """Was the job killed at its N-th write? False where it has fewer."""
    process = started(feed, "tests.daily_feed", job, str(point), *feed.given, *overrides)
    out, err = process.communicate()
    assert process.returncode in (0, -9), out + err
    return process.returncode == -9


@pytest.mark.parametrize(("step", "jobs", "fewest"), [
    pytest.param(200, (JOB,), 1, id="some"),
    pytest.param(8, (JOB, NEXT), 60, id="many", marks=pytest.mark.prove)])
def test_a_kill_at_writes_and_the_same_command_again(feed, step, jobs, fewest):
    """Each try gets `step` writes further than where it starts; the last one ends the day."""
    kills, days = 0, []
    for job, day in jobs:
        days.append(day.split("=")[1])
        point = step
        while killed_at(feed, job, point, day):
            kills += 1
            check_standing(feed)
            point += step
        code, said = run(feed, job, day)
        assert (code, "is done: version" in said) == (0, True), said
        check_agreement(feed, days)
    assert kills >= fewest


@pytest.mark.prove
def test_kills_at_random_times(feed):
    rng, kills, days = random.Random(5), 0, []
    began = time.monotonic()
    assert run(feed, *JOB, "paths.state=elsewhere/state", "paths.outputs=elsewhere/outputs",
               "paths.exported_models=elsewhere/exported")[0] == 0
    whole = time.monotonic() - began
    for job, day in (JOB, NEXT, ("retrain", "window.as_of=2024-01-07"),
                     ("finetune", "window.as_of=2024-01-08")):
        days.append(day.split("=")[1])
        for _ in range(15):
            process = started(feed, f"pipelines.{job}", *feed.given, day)
            try:
                process.communicate(timeout=rng.uniform(0.2, 1.0) * whole)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
            check_standing(feed)
        code, said = run(feed, job, day)
        assert code == 0, said
        check_agreement(feed, days)
    assert kills >= 40
