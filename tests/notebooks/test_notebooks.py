"""The notebooks run from top to bottom, and what is committed of them is a whole, recent run.

Executed here with small parameters; the committed outputs are those of the full ones:
python -m notebooks.execute
"""

import re
import tempfile
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import FOLDER, assigned, executed, parameters_cell

_SMALL_FEED = ["training.epochs=1", "training.consolidation_epochs=0", "teacher=dcn"]
# Every parameter of a committed notebook is given: a new one must be thought of here.
SMALL = {
    "01_quickstart": {
        "ROWS": 8000, "REGIME": "third_order", "WORK": "{work}", "OVERRIDES": _SMALL_FEED},
    "02_what_the_hints_buy": {
        "REGIME": "third_order", "ROWS": 8000, "TRAIN_DAYS": [4], "STUDENTS": ["units8"],
        "SEEDS": 2, "STATE": "{work}", "OVERRIDES": _SMALL_FEED},
    "03_compare_experiments": {
        "ROWS": 8000, "VARIANTS": ["labels_only", "soft_labels_and_hints"], "SEEDS": [1],
        "WORK": "{work}", "OVERRIDES": [*_SMALL_FEED, "evaluation.references=false"]},
}
_MOST_BYTES = 400_000
_PATH_OF_A_MACHINE = re.compile(r"(?<![\w.:])/(work|tmp|root|home|usr|opt|Users)/|[A-Z]:\\\\")


def committed(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell shows: which streams, and which representations of which results."""
    return {(output.output_type, output.get("name"), tuple(sorted(output.get("data", {}))))
            for output in cell.outputs}


def texts(cell):
    """All that a reader could see of a cell, without pictures."""
    for output in cell.outputs:
        yield output.get("text", "")
        for kind, value in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield str(value)


def test_every_notebook_is_tested():
    assert sorted(SMALL) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", SMALL)
class TestCommitted:
    def test_it_is_valid_and_of_modest_size(self, name):
        nbformat.validate(committed(name))
        assert (FOLDER / f"{name}.ipynb").stat().st_size < _MOST_BYTES

    def test_it_was_run_once_from_top_to_bottom(self, name):
        cells = code_cells(committed(name))
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))

    def test_it_shows_results_and_neither_errors_nor_warnings(self, name):
        found = [kind for cell in code_cells(committed(name)) for kind in kinds(cell)]
        assert any("image/png" in kind[2] for kind in found)
        assert any("text/html" in kind[2] for kind in found)
        assert not [kind for kind in found if kind[0] == "error" or kind[1] == "stderr"]

    def test_no_path_of_a_machine_is_in_it(self, name):
        for cell in committed(name).cells:
            for text in [cell.source, *(texts(cell) if cell.cell_type == "code" else ())]:
                assert not _PATH_OF_A_MACHINE.search(text)
                for place in (FOLDER.parent, Path.home(), Path(tempfile.gettempdir())):
                    assert f"{place}/" not in text

    def test_its_links_lead_somewhere(self, name):
        for cell in committed(name).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                    assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_shows_what_the_committed_one_shows(name, tmp_path):
    parameters = {key: str(tmp_path / "work") if value == "{work}" else value
                  for key, value in SMALL[name].items()}
    before = (FOLDER / f"{name}.ipynb").read_bytes()

    found = executed(FOLDER / f"{name}.ipynb", parameters)

    assert set(parameters) == assigned(parameters_cell(committed(name)))
    assert [kinds(cell) for cell in code_cells(found)] == [
        kinds(cell) for cell in code_cells(committed(name))]
    assert (tmp_path / "work").is_dir()  # the parameters were heeded
    assert (FOLDER / f"{name}.ipynb").read_bytes() == before


def test_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match="01_quickstart has no parameters ROW, expected"):
        executed(FOLDER / "01_quickstart.ipynb", {"ROW": 8000})


def test_a_notebook_without_tagged_cell_is_refused(tmp_path):
    path = tmp_path / "plain.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("ROWS = 1")]), path)
    with pytest.raises(ValueError, match="expected one cell tagged `parameters`, found 0"):
        executed(path, {"ROWS": 2})


def test_a_failing_cell_ends_the_execution(tmp_path):
    from nbclient.exceptions import CellExecutionError

    path = tmp_path / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("raise KeyError('lost')")]), path)
    with pytest.raises(CellExecutionError, match="lost"):
        executed(path)
