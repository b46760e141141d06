"""Exit codes and the last line on stderr, through hydra's real command line."""

import sys

import pytest

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.errors import ConfigError, DataError, LockError, RejectedError
from pipelines.entry import _arguments, start


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Returns a function: a job that does `main`, with a command line; its code and lines."""
    monkeypatch.chdir(tmp_path)

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as exit:
            start("train", main)
        said = capsys.readouterr()
        return exit.value.code, said.out.splitlines(), said.err.splitlines()

    return run


def fails(error):
    def main(config):
        raise error

    return main


@pytest.mark.parametrize(("error", "code", "last"), [
    (ConfigError("a is wrong."), 2, "error: a is wrong."),
    (ConfigError(["a is wrong.", "b is wrong."]), 2,
     "error: 2 mistakes in the configuration: (1) a is wrong. (2) b is wrong."),
    (DataError("a column\nis missing."), 1, "error: a column is missing."),
    (LockError("locked by pid 7, started today"), 1, "error: locked by pid 7, started today"),
    (OSError(28, "No space left on device"), 1,
     "error: OSError: [Errno 28] No space left on device. Make room, and run the same command "
     "again; what was published is untouched."),
    (RejectedError("the day was rejected."), 3, "error: the day was rejected."),
    (KeyboardInterrupt(), 130, "error: interrupted"),
])
def test_an_error_has_its_code_and_one_line(run, error, code, last):
    assert run(fails(error)) == (code, [], [last])


def test_a_bug_shows_its_trace_above_the_last_line(run):
    code, _, said = run(fails(ZeroDivisionError("division by zero")))
    assert code == 1
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1] == "error: ZeroDivisionError: division by zero"


def test_debug_shows_the_trace_of_any_error(run):
    code, _, said = run(fails(DataError("a column is missing.")), "debug=true")
    assert (code, said[0]) == (1, "Traceback (most recent call last):")
    assert said[-1] == "error: a column is missing."


def test_a_job_that_is_done(run):
    seen = []
    assert run(seen.append, "seed=7") == (0, [], [])
    assert seen[0].seed == 7


@pytest.mark.parametrize(("arguments", "last"), [
    (["seeed=1"], "error: Could not override 'seeed'. `--help` lists what there is."),
    (["student=ligth"], "error: In 'train': Could not find 'student/ligth' Available options in "
                        "'student': light same_mlp tiny `--help` lists what there is."),
    (["window=null"], "error: ValueError: Config group override must be a string or a list. "
                      "Got NoneType"),
    (["students=[light"], "error: no viable alternative at input '[light'"),
    (["--config-dir", "nowhere"], "error: Additional config directory '"),
    (["--no-such-option"], "train: error: unrecognized arguments: --no-such-option"),
])
def test_what_does_not_compose_never_reaches_the_job(run, arguments, last):
    code, out, said = run(fails(AssertionError("the job was started")), *arguments)
    assert (code, out) == (2, [])
    assert said[-1].startswith(last)


@pytest.mark.parametrize(("codes", "expected"), [
    ([0, 0], 0), ([0, 1], 1), ([1, 2, 0], 2), ([2, 0, 1], 2), ([1, 0], 1),
])
def test_a_sweep_runs_every_job_then_ends_with_the_worst(run, codes, expected, tmp_path):
    errors = {1: DataError("no data."), 2: ConfigError("wrong.")}
    seen = []

    def main(config):
        seen.append(config.seed)
        if error := errors.get(codes[config.seed]):
            raise error

    seeds = list(range(len(codes)))
    code, out, said = run(main, "-m", f"seed={','.join(map(str, seeds))}")
    assert (code, seen) == (expected, seeds)
    assert out == [f"job {i} of the sweep: seed={i}" for i in seeds]
    assert said == [f"error: {errors[c]}" for c in codes if c]


def test_options_may_stand_anywhere():
    given = ["seed=1", "-m", "--config-dir", "mine", "student_overrides.light.dropout=0.1",
             "--help"]
    assert _arguments(given) == ["-m", "--config-dir", "mine", "seed=1",
                                 "++student_overrides.light.dropout=0.1", "--help"]


def test_help_explains_the_job(run):
    for arguments in (["--help"], ["--help", "teacher=dcn"]):
        code, out, said = run(fails(AssertionError("the job was started")), *arguments)
        assert (code, said) == (0, [])
        assert out[0].startswith("Train the teacher and its students together")
        assert sum(line.startswith("  python -m pipelines.train") for line in out) >= 5
