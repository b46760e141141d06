"""Daily jobs killed at their writes and at random times; the same command completes the day."""

import random
import shutil

import pyarrow.parquet as pq
import pytest

from dualdnn.export.versions import version_numbers
from dualdnn.training.student_learner import open_student
from tests.daily_feed import Feed
from tests.forked_jobs import ForkedJobs

JOB = ("retrain", "window.as_of=2024-01-05")
NEXT = ("finetune", "window.as_of=2024-01-06")
KILLED = -9


@pytest.fixture
def feed(tmp_path):
    return Feed(tmp_path / "site")


@pytest.mark.parametrize(("step", "planned", "fewest"), [
    pytest.param(150, (JOB,), 2, id="some"),
    pytest.param(8, (JOB, NEXT), 25, id="many", marks=pytest.mark.prove)])
def test_a_kill_at_writes_and_the_same_command_again(feed, forks, step, planned, fewest):
    """Each try gets `step` writes further than where it starts; the last one ends the day."""
    kills, days = 0, []
    for job, day in planned:
        days.append(day.split("=")[1])
        point = step
        while (tried := forks.run(feed.folder, job, *feed.given, day,
                                  kill_at=point))["code"] == KILLED:
            kills += 1
            feed.check_standing()
            point += step
        assert tried["code"] == 0, tried["said"]
        feed.check_agreement(days)
    print(f"{kills} kills")
    assert kills >= fewest


@pytest.mark.prove
@pytest.mark.parametrize(("earlier", "job", "day"), [((), *JOB), ((JOB,), *NEXT)])
def test_a_kill_at_every_write_from_publishing_to_the_end(feed, forks, earlier, job, day):
    """The end of a job is repeated in copies of the folder, each with a kill one write later."""
    days = [one[1].split("=")[1] for one in (*earlier, (job, day))]
    for one in earlier:
        assert forks.run(feed.folder, one[0], *feed.given, one[1])["code"] == 0
    # The stopped job keeps its lock, on a file that is no longer in the folder.
    kept, point, champions, retries = feed.folder.with_name("kept"), 1, set(), 0
    with ForkedJobs() as stopped:
        stopped.stop_before_the_end(feed.folder, job, *feed.given, day)
        feed.folder.rename(kept)
        while True:
            shutil.rmtree(feed.folder, ignore_errors=True)
            shutil.copytree(kept, feed.folder)
            tried = stopped.end(feed.folder, kill_at=point)
            champions.add(feed.check_standing())
            if tried["code"] == 0:
                break
            assert (tried["code"], len(tried["writes"])) == (KILLED, point), tried["said"]
            if point % 10 == 1:  # the same command completes the day
                retries += 1
                again = forks.run(feed.folder, job, *feed.given, day)
                assert again["code"] == 0, again["said"]
                feed.check_agreement(days)
            # Any other command of the model repairs what follows from champion.json.
            elif point % 3 == 0 and feed.exported.is_dir():
                listed = forks.run(feed.folder, "publish", "--config-dir", "conf", "data=my_feed")
                assert listed["code"] == 0, listed["said"]
                if version := feed.check_standing():
                    feed.check_served(version)
            point += 1
    feed.check_agreement(days)
    print(f"{point - 1} kills, {retries} times the same command")
    assert point > 80
    # The kills fell on both sides of the change.
    assert champions == {len(days) - 1, len(days)}


@pytest.mark.prove
def test_kills_at_random_times(feed, forks):
    rng, kills, days = random.Random(5), 0, []
    whole = forks.run(feed.folder, 
        *JOB[:1], *feed.given, JOB[1], "paths.state=elsewhere/state",
        "paths.outputs=elsewhere/outputs", "paths.exported_models=elsewhere/exported")
    assert whole["code"] == 0, whole["said"]
    for job, day in (JOB, NEXT, ("retrain", "window.as_of=2024-01-07"),
                     ("finetune", "window.as_of=2024-01-08")):
        days.append(day.split("=")[1])
        # Early ones first: a late one may find the day done, after which there is no more to kill.
        for share in (0.1, 0.2, 0.3, 0.4, 0.6, 0.8):
            tried = forks.run(feed.folder, job, *feed.given, day,
                              kill_after=rng.uniform(0.02, share) * whole["seconds"])
            assert tried["code"] in (0, KILLED), tried["said"]
            feed.check_standing()
            if tried["code"] == 0:
                break
            kills += 1
        process = feed.start(job, day)  # as an operator runs it, without a fork
        said, _ = process.communicate()
        assert process.returncode == 0, said
        feed.check_agreement(days)
    print(f"{kills} kills")
    assert kills >= 6


FOLLOW = ("scope=student", "source=dropped", "online.publish_rows=100", "online.idle_minutes=0")


@pytest.mark.prove
def test_a_stream_is_killed_at_writes(feed, forks):
    """Each try gets nine writes further; every file is learned by the version that stands."""
    assert forks.run(feed.folder, *JOB[:1], *feed.given, JOB[1])["code"] == 0
    dropped = feed.folder / "dropped"
    dropped.mkdir()
    for day in (6, 7):
        table = pq.read_table(feed.folder / "feed" / f"dt=2024-01-0{day}" / "part.parquet")
        for part in range(2):
            pq.write_table(table.slice(120 * part, 120), dropped / f"{day}-{part}.parquet")
    kills, point = 0, 9
    while (tried := forks.run(feed.folder, "finetune", *feed.given, *FOLLOW,
                              kill_at=point))["code"] == KILLED:
        kills += 1
        feed.check_standing()
        point += 9
    assert tried["code"] == 0, tried["said"]
    assert kills >= 15
    version = feed.check_standing()
    overlay = open_student(feed.state / str(version) / "student")
    assert sorted(overlay.about["files"]) == [f"{day}-{part}.parquet" for day in (6, 7)
                                              for part in range(2)]
    assert overlay.about["learned"][0] == 480
    numbers = version_numbers(feed.exported)
    assert (numbers, version) == (version_numbers(feed.state), numbers[-1])
    feed.check_served(version)
    for folder in (feed.exported, feed.state):
        assert not list(folder.glob(".tmp-*"))
