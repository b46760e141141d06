"""A run that was interrupted ends as if it had not been."""

import dualdnn  # noqa: F401, I001  (first: it selects the Keras API)

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dualdnn.training.checkpoint as checkpoint_module
from dualdnn.distillation.objective import Objective
from dualdnn.distillation.schedules import Schedule, Schedules
from dualdnn.errors import DataError
from dualdnn.training.table_optimizer import TableOptimizerSettings
from tests.tiny_run import EVERYTHING, anew, build_model, build_trainer, digest_of, open_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"))


# The teacher overshoots and stops early, so that its table rests in what is resumed.
SETTINGS = {"epochs": 3, "patience": 1, "evaluations_per_epoch": 2, "rates": {"teacher": 0.8}}


class Interrupt(Exception):
    """Ctrl-C, a full disk, a lost machine."""


class Interrupter:
    def __init__(self, step):
        self.step = step

    def on_step(self, step, steps):
        if step == self.step:
            raise Interrupt

    def on_record(self, record):
        pass


def trainer_for(examples, folder, *, stop_at=None, **changes):
    model = build_model(examples, [EVERYTHING], alone=True)
    return build_trainer(examples, model, folder, listener=Interrupter(stop_at),
                         **{**SETTINGS, **changes})


def outcome(trainer):
    """Everything a run leaves behind."""
    best, state = trainer.best.to_arrays()
    return {
        "step": trainer.step, "progress": trainer.summary(), "history": trainer.history,
        "weights": [digest_of(trainer.model, tower) for tower in trainer.model.towers],
        "best": {name: value.tolist() for name, value in best.items()}, "state": state,
    }


@pytest.fixture(scope="module")
def without_valid(tmp_path_factory):
    return open_tiny(tmp_path_factory.mktemp("feed"), valid=0.0)


@pytest.fixture(scope="module")
def uninterrupted(examples, tmp_path_factory):
    """A finished trainer, whose towers later tests may start anew, and what it left behind."""
    trainer = trainer_for(examples, tmp_path_factory.mktemp("whole"))
    trainer.run()
    assert {t: p.status for t, p in trainer.progress.items()} == {
        "teacher": "stopped", "s0": "training", "alone": "training"}
    return trainer, outcome(trainer)


def test_interrupted_again_and_again_ends_bit_identically(tmp_path, uninterrupted):
    whole, expected = uninterrupted
    # Before the first checkpoint, before one at an evaluation, after it, after the teacher's stop.
    for stop_at, found in ((1, None), (6, None), (7, 4), (17, 6)):
        trainer = anew(whole, tmp_path, listener=Interrupter(stop_at))
        assert trainer.resume() == (found is not None)
        assert trainer.step == (found or 0)
        with pytest.raises(Interrupt):
            trainer.run()
    trainer = anew(whole, tmp_path)
    trainer.resume()
    assert trainer.step == 16
    assert trainer.progress["teacher"].status == "stopped"
    trainer.run()
    assert outcome(trainer) == expected


SCHEDULED = replace(EVERYTHING, schedule=Schedules(
    soft_label_weight=Schedule(shape="warm_up", start=0.2),
    temperature=Schedule(shape="cosine", initial=2.0)))


def late_trainer(examples, folder, *, stop_at=None, **changes):
    """Every tower that the phase after the teacher can have: it takes 18 or 24 steps."""
    model = build_model(examples, [SCHEDULED], late=[SCHEDULED], late_own=EVERYTHING,
                        extra=["item"])
    return build_trainer(examples, model, folder, listener=Interrupter(stop_at),
                         **{**SETTINGS, "patience": 9, "consolidation_epochs": 2,
                            "checkpoint_every_steps": 4, **changes})


# Before the first checkpoint after the teacher's end, and while s0 consolidates.
@pytest.mark.parametrize(("valid", "stops", "last"), [
    (True, ((19, 0), (26, 18)), 24),
    pytest.param(False, ((38, 0),), 36, marks=pytest.mark.prove),
])
def test_a_run_that_is_interrupted_after_the_teacher_ends_bit_identically(
        examples, without_valid, tmp_path, valid, stops, last):
    whole = late_trainer(examples if valid else without_valid, tmp_path / "whole")
    whole.run()
    expected = outcome(whole)
    for stop_at, found in stops:
        trainer = anew(whole, tmp_path / "run", listener=Interrupter(stop_at))
        trainer.resume()
        assert trainer.step == found
        with pytest.raises(Interrupt):
            trainer.run()
    trainer = anew(whole, tmp_path / "run")
    assert trainer.resume()
    assert trainer.step == last
    assert trainer.phase.name == "after_teacher"
    assert trainer.phase.start == (18 if valid else 24)
    trainer.run()
    assert outcome(trainer) == expected


@pytest.mark.parametrize(("make", "named"), [
    (lambda examples: build_model(examples, [SCHEDULED], late=[EVERYTHING]), "objective of s0"),
    (lambda examples: build_model(examples, [EVERYTHING, EVERYTHING]),
     "after the teacher, objective of late0, optimizer of late0, objective of s1, optimizer of s1"),
])
def test_other_schedules_and_other_starts_are_refused_by_name(examples, tmp_path, make, named):
    model = build_model(examples, [EVERYTHING], late=[EVERYTHING])
    with pytest.raises(Interrupt):
        build_trainer(examples, model, tmp_path, listener=Interrupter(3)).run()
    with pytest.raises(DataError, match=f"these differ: {named}\\."):
        build_trainer(examples, make(examples), tmp_path).resume()


def test_a_finished_run_is_resumed_at_its_end(uninterrupted):
    whole, expected = uninterrupted
    again = anew(whole, whole.folder)
    assert again.resume()
    again.run()
    assert outcome(again) == expected


def run_process(folder, *arguments):
    return subprocess.run([sys.executable, "-m", "tests.tiny_run", str(folder), *arguments],
                          cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.prove
def test_a_killed_process_resumes_bit_identically_and_so_does_a_new_one(tmp_path):
    open_tiny(tmp_path)
    killed = run_process(tmp_path, "--deterministic", "--kill-at-step", "7")
    assert killed.returncode == -signal.SIGKILL
    # As if it had been killed once more, while it wrote a checkpoint.
    half = tmp_path / "checkpoints" / ".tmp-step-0000000008-1-abc"
    half.mkdir()
    (half / "packed.npz").write_bytes(b"half")
    resumed = run_process(tmp_path, "--deterministic")
    assert resumed.returncode == 0, resumed.stderr
    assert not half.exists()
    whole = tmp_path / "whole"
    whole.mkdir()
    # Also not deterministic by request: the same, on a CPU.
    straight = run_process(whole, *())
    found, expected = (json.loads(done.stdout) for done in (resumed, straight))
    assert (found.pop("resumed"), expected.pop("resumed")) == (True, False)
    assert found == expected


def test_a_failed_write_leaves_the_checkpoints_from_before(tmp_path, monkeypatch, uninterrupted):
    whole, _ = uninterrupted
    trainer = anew(whole, tmp_path, listener=Interrupter(5))
    with pytest.raises(Interrupt):
        trainer.run()
    before = [(path.name, sorted(p.name for p in path.iterdir())) for path in trainer.checkpoints()]

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    trainer = anew(whole, tmp_path)
    trainer.resume()
    monkeypatch.setattr(checkpoint_module.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    assert [(path.name, sorted(p.name for p in path.iterdir()))
            for path in trainer.checkpoints()] == before
    assert len(list(tmp_path.iterdir())) == len(before)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, uninterrupted):
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Interrupt):
        anew(uninterrupted[0], folder, listener=Interrupter(3)).run()
    return folder


@pytest.mark.parametrize(("changes", "named"), [
    ({"seed": 2}, "seed"),
    ({"epochs": 4}, "training"),
    ({"consolidation_epochs": 1}, "training"),
    ({"batch_size": 47}, "training"),
    ({"rates": {"teacher": 0.8, "s0": 0.5}}, "optimizer of s0"),
    ({"clip_norm": None}, "optimizer of teacher, optimizer of s0, optimizer of alone"),
    ({"table": TableOptimizerSettings(method="adagrad")},
     "optimizer of table shared, optimizer of table alone"),
])
def test_other_settings_are_refused_by_name(examples, interrupted, changes, named):
    trainer = trainer_for(examples, interrupted, **changes)
    before = digest_of(trainer.model, "s0")
    with pytest.raises(DataError, match="step-0000000002 belongs to another configuration; these "
                                        rf"differ: {named}\. Resume with"):
        trainer.resume()
    assert (trainer.step, digest_of(trainer.model, "s0")) == (0, before)


def test_other_towers_losses_and_data_are_refused_by_name(examples, interrupted, tmp_path):
    def resume(examples, objectives, alone=True):
        build_trainer(examples, build_model(examples, objectives, alone=alone), interrupted,
                      **SETTINGS).resume()

    with pytest.raises(DataError, match="differ: objective of s0, optimizer of s0"):
        resume(examples, [])
    with pytest.raises(DataError, match="differ: objective of s1, optimizer of s1"):
        resume(examples, [EVERYTHING, Objective()])
    with pytest.raises(DataError, match=r"differ: objective of s0\."):
        resume(examples, [Objective()])
    with pytest.raises(DataError, match=r"differ: data\."):
        resume(open_tiny(tmp_path, valid=0.1), [EVERYTHING])


def test_nothing_to_resume(examples, tmp_path):
    trainer = trainer_for(examples, tmp_path / "nothing")
    assert not trainer.resume()
    assert trainer.step == 0
    assert np.isfinite(trainer.total_steps)
