"""`make` builds its environment once, anew after a kill or a new lock, and says what it needs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# Stands in for Python: its environments hold a `python` that fails while `broken` exists.
_PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exit 0; fi
rm -rf .venv && mkdir -p .venv/bin
printf '#!/bin/sh\\necho "$@" >> said\\ntest ! -e broken\\n' > .venv/bin/python
chmod +x .venv/bin/python
"""
_OLD_PYTHON = "#!/bin/sh\nexit 1\n"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def clone(tmp_path):
    """Makefile, lock and a stand-in for Python; what ran in .venv stands in `said`."""
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for name, text in (("python", _PYTHON), ("old_python", _OLD_PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(folder, *arguments):
    # Not the variables of a `make test` that runs this.
    inherited = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    return subprocess.run(["make", *arguments], cwd=folder, text=True, capture_output=True,
                          check=False, env=inherited)


def said(folder):
    """What was run in the environment since the last call."""
    path = folder / "said"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


INSTALL = ("-m pip install --quiet --disable-pip-version-check --require-hashes "
           "-r requirements.lock")
TRAIN = "-m pipelines.train reuse=true resume=true"


def test_the_environment_is_built_once(clone):
    assert make(clone, "run", "PYTHON=./python").returncode == 0
    assert said(clone) == [INSTALL, TRAIN]
    assert make(clone, "run", "PYTHON=./python", "ARGS=seed=2").returncode == 0
    assert said(clone) == [f"{TRAIN} seed=2"]


def test_an_installation_that_broke_off_is_done_again(clone):
    (clone / "broken").touch()
    assert make(clone, "run", "PYTHON=./python").returncode != 0
    assert said(clone) == [INSTALL]
    (clone / "broken").unlink()
    assert make(clone, "run", "PYTHON=./python").returncode == 0
    assert said(clone) == [INSTALL, TRAIN]


def test_another_lock_is_installed_anew(clone):
    make(clone, "venv", "PYTHON=./python")
    said(clone)
    with (clone / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    make(clone, "venv", "PYTHON=./python")
    assert said(clone) == [INSTALL]


@pytest.mark.parametrize(("python", "message"), [
    ("./old_python", "dualdnn needs Python 3.11 or newer, and ./old_python is not."),
    ("./nowhere", "dualdnn needs Python 3.11 or newer, and ./nowhere is not."),
    ("", "dualdnn needs Python 3.11 or newer, and found none on the PATH."),
])
def test_a_python_that_will_not_do_is_named(clone, python, message):
    done = make(clone, "run", f"PYTHON={python}")
    assert done.returncode != 0
    assert message in done.stderr
    assert "make run PYTHON=/path/to/python3.11" in done.stderr
    assert not (clone / ".venv").exists()


def test_python_is_found_by_itself(clone):
    out = make(clone, "--dry-run", "venv").stdout
    assert re.search(r"^(python3\.11|python3|python) -m venv --clear \.venv$", out, re.MULTILINE)


def test_continuous_integration_runs_the_tests(clone):
    shutil.copytree(REPOSITORY / ".ci", clone / ".ci")
    (clone / "Makefile").write_text("test:\n\t@echo tested\n")
    done = subprocess.run([clone / ".ci" / "run"], cwd="/", text=True, capture_output=True,
                          check=True)
    assert "tested" in done.stdout


# --- the lock ---


def locked():
    """Package to version."""
    text = (REPOSITORY / "requirements.lock").read_text()
    return {name.lower().replace("_", "-"): version
            for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def test_the_lock_pins_what_the_project_asks_for():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["app"],
             *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in asked}
    assert names - {"dualdnn"} <= set(locked())
    assert "uv" not in locked()


def test_every_pin_has_a_hash_and_no_address():
    text = (REPOSITORY / "requirements.lock").read_text()
    pins = re.findall(r"^[\w.-]+==\S+( ;.*)? \\\n    --hash=sha256:[0-9a-f]{64}", text,
                      re.MULTILINE)
    assert len(pins) == len(locked()) > 100
    assert "://" not in text
    assert text.splitlines()[1] == "#    make lock"


@pytest.mark.skipif(not sys.prefix.startswith(str(REPOSITORY)), reason="not the .venv of make")
def test_the_tests_run_with_what_the_lock_pins():
    from importlib.metadata import version

    for name in ("tensorflow", "numpy", "mlflow", "hydra-core", "pytest", "ruff"):
        assert version(name) == locked()[name]
