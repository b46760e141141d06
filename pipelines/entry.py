"""Starts a job: composes its configuration and turns errors into exit codes."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dualdnn.errors import ConfigError, DualDNNError, RejectedError
from pipelines import interrupts

_CONF = str(Path(__file__).resolve().parents[1] / "conf")
DONE, FAILED, WRONG_CONFIGURATION, REJECTED = 0, 1, 2, 3


def _report(error: BaseException, debug: bool) -> None:
    """The cause as the last line on stderr; the trace only when asked for."""
    if debug:
        traceback.print_exception(error)
    text = " ".join(str(error).split()) or type(error).__name__
    # Hydra's own advice leads on to a key that nothing reads.
    text = re.sub(r" (To append to your config use|Config search path:) .*",
                  " `--help` lists what there is.", text)
    if not isinstance(error, DualDNNError | HydraException | OmegaConfBaseException):
        text = f"{type(error).__name__}: {text}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text += ". Make room, and run the same command again; what was published is untouched."
    print(f"error: {text}", file=sys.stderr, flush=True)


# Keys below are those of other files, which the primary configuration cannot know.
_OF_FILES = ("student_overrides.", "baseline_overrides.", "scheme_comparison.overrides.")


def _arguments(given: Sequence[str]) -> list[str]:
    """The command line as hydra reads it.

    Its options must not stand between overrides, and keys of other files get what makes hydra
    take them.
    """
    options, overrides, rest = [], [], list(given)
    while rest:
        argument = rest.pop(0)
        if argument in ("-m", "--multirun"):
            options.append(argument)
        elif argument in ("-cd", "--config-dir"):
            options += [argument, *rest[:1]]
            rest = rest[1:]
        else:
            is_of_file = argument.startswith(_OF_FILES)
            overrides.append(f"++{argument}" if is_of_file else argument)
    return options + overrides


def start(job: str, main: Callable[[DictConfig], None]) -> None:
    """Run `main` with the configuration `conf/JOB.yaml` and the command line, then exit.

    Exit codes: 0 done, 1 failed, 2 wrong configuration, 3 rejected by the gate. A sweep runs every
    job, then exits 2 if any was 2, else 1 if any failed, else 3 if any was rejected.

    Args:
        job: name of the primary configuration.
        main: the job.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("dualdnn").setLevel(logging.INFO)
    # Errors reach us instead of hydra's own exit, so that code and last line are the contract's.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv[1:] = _arguments(sys.argv[1:])
    codes: list[int] = []
    interrupts.listen()

    @hydra.main(version_base="1.3", config_path=_CONF, config_name=job)
    def task(config: DictConfig) -> None:
        debug = bool(config.get("debug", False))
        running = HydraConfig.get()
        if running.mode == RunMode.MULTIRUN:
            print(f"job {running.job.num} of the sweep: {running.job.override_dirname}", flush=True)
        try:
            main(config)
            codes.append(DONE)
        except (ConfigError, OmegaConfBaseException, HydraException) as error:
            _report(error, debug)
            codes.append(WRONG_CONFIGURATION)
        except RejectedError as error:
            _report(error, debug)
            codes.append(REJECTED)
        except Exception as error:
            _report(error, debug or not isinstance(error, DualDNNError | OSError))
            codes.append(FAILED)

    try:
        task()
    except KeyboardInterrupt as error:
        print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # such as --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # from composing: `task` keeps those of the job to itself
        _report(error, debug="debug=true" in sys.argv)
        codes.append(WRONG_CONFIGURATION)
    for code in (WRONG_CONFIGURATION, FAILED, REJECTED):
        if code in codes:
            sys.exit(code)
    sys.exit(DONE)
