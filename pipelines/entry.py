"""Starts a job: composes its configuration and turns errors into exit codes."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dualdnn.errors import ConfigError, DualDNNError

_CONF = str(Path(__file__).resolve().parents[1] / "conf")
DONE, FAILED, WRONG_CONFIGURATION = 0, 1, 2


def _report(error: BaseException, debug: bool) -> None:
    """The cause as the last line on stderr; the trace only when asked for."""
    if debug:
        traceback.print_exception(error)
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, DualDNNError | HydraException | OmegaConfBaseException):
        text = f"{type(error).__name__}: {text}"
    print(f"error: {text}", file=sys.stderr, flush=True)


def start(job: str, main: Callable[[DictConfig], None]) -> None:
    """Run `main` with the configuration `conf/JOB.yaml` and the command line, then exit.

    Exit codes: 0 done, 1 failed, 2 wrong configuration. A sweep runs every job, then exits 2 if
    any was 2, else 1 if any failed.

    Args:
        job: name of the primary configuration.
        main: the job.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("dualdnn").setLevel(logging.INFO)
    # Errors reach us instead of hydra's own exit, so that code and last line are the contract's.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # A key of a student's own configuration, which the primary one cannot know.
    sys.argv[1:] = [f"++{a}" if a.startswith("student_overrides.") else a for a in sys.argv[1:]]
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=_CONF, config_name=job)
    def task(config: DictConfig) -> None:
        debug = bool(config.get("debug", False))
        try:
            main(config)
            codes.append(DONE)
        except (ConfigError, OmegaConfBaseException, HydraException) as error:
            _report(error, debug)
            codes.append(WRONG_CONFIGURATION)
        except Exception as error:
            _report(error, debug or not isinstance(error, DualDNNError | OSError))
            codes.append(FAILED)

    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        _report(error, debug=False)
        codes.append(WRONG_CONFIGURATION)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    for code in (WRONG_CONFIGURATION, FAILED):
        if code in codes:
            sys.exit(code)
    sys.exit(DONE)
