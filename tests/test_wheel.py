"""The wheel is the library: it trains a pair where nothing of the application is installed."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.tiny_run import write_lake

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE = REPOSITORY / "tests" / "readme_example.py"
# What the jobs, the reports and the tests need on top of the library.
NOT_OF_THE_LIBRARY = ("hydra", "omegaconf", "mlflow", "rich", "matplotlib", "sklearn", "pipelines",
                      "yaml")
_REFUSES = f"""
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {NOT_OF_THE_LIBRARY!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed in a bare environment")

sys.meta_path.insert(0, Refuses())
"""


def run(*command, **options):
    # Without the variables by which this process finds its own packages.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True,
                          check=False, env=inherited, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built offline from a copy, so that nothing is left in the working copy."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "dualdnn", source / "dualdnn",
                    ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--wheel-dir", source / "dist", source)
    (built,) = (source / "dist").glob("dualdnn-*.whl")
    return built


def packages_of(environment):
    """The folder that an environment installs packages into."""
    (found,) = environment.glob("lib/python3.*/site-packages")
    return found


def train_by_the_example(environment, folder):
    """Run the README's example in a folder of its own; what it printed."""
    write_lake(folder / "feed")
    out = run(environment / "bin" / "python", "-c",
              f"import dualdnn; print(dualdnn.__file__); exec(open({str(EXAMPLE)!r}).read())",
              cwd=folder)
    home, aucs, answer = out.splitlines()
    assert Path(home).is_relative_to(environment)
    assert re.fullmatch(r"\{'teacher': 0\.\d+, 'light': 0\.\d+\}", aucs)
    assert answer.startswith("exported_models/my_feed_dev/1 {'request': {'user': 'u")
    assert (folder / "exported_models" / "my_feed_dev" / "1" / "saved_model.pb").exists()


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    modules = {path.relative_to(REPOSITORY).as_posix()
               for path in (REPOSITORY / "dualdnn").rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == modules
    assert any(name.endswith("LICENSE") for name in names)
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert {name.lower().replace("_", "-") for name in required} == {
        "tensorflow", "tf-keras", "tensorflow-recommenders", "tensorflow-serving-api", "numpy",
        "pandas", "pyarrow"}


def test_a_pair_is_trained_from_the_wheel(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    packages = packages_of(environment)
    # The dependencies are those of this environment; what is not one is refused.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (packages / "sitecustomize.py").write_text(_REFUSES)
    run(sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install",
        "--quiet", "--no-deps", "--no-index", wheel)
    train_by_the_example(environment, tmp_path / "start")


@pytest.mark.prove
def test_a_pair_is_trained_where_only_the_wheel_was_installed(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    run(environment / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    installed = {path.name for path in packages_of(environment).iterdir()}
    assert not installed & {"hydra", "omegaconf", "mlflow", "matplotlib", "sklearn"}
    train_by_the_example(environment, tmp_path / "start")


def test_the_example_is_about_thirty_lines():
    code = [line for line in EXAMPLE.read_text().splitlines()
            if line and not line.startswith(("#", "from ", "import "))]
    assert len(code) <= 30
