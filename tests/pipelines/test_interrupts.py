"""Interrupts wait for the end of a step while towers are trained, and are raised at once else."""

import os
import signal

import pytest

from pipelines import interrupts


@pytest.fixture(autouse=True)
def listening():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.listen()
    yield
    interrupts.wait_for_steps(False)
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_outside_of_training_it_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    interrupts.pass_on()


def test_in_training_it_waits_for_the_step():
    interrupts.wait_for_steps(True)
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupts.pass_on()
    interrupts.pass_on()  # it was passed on once


def test_a_second_one_does_not_wait():
    interrupts.wait_for_steps(True)
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    interrupt()
