"""Runs notebooks from top to bottom, keeps the outputs: python -m notebooks.execute [NAME ...].

The tests run the same notebooks with smaller parameters, and keep nothing.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
# Of one cell. Committed sizes take minutes.
_MOST_SECONDS = 3 * 3600


def parameters_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The one cell that is tagged `parameters`.

    Raises:
        ValueError: there is none, or several.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"expected one cell tagged `parameters`, found {len(tagged)}.")
    return tagged[0]


def assigned(cell: nbformat.NotebookNode) -> set[str]:
    """Names that the statements of a cell assign."""
    statements = ast.parse(cell.source).body
    return {target.id for statement in statements if isinstance(statement, ast.Assign)
            for target in statement.targets if isinstance(target, ast.Name)}


def executed(path: Path, parameters: Mapping[str, Any] | None = None) -> nbformat.NotebookNode:
    """A notebook with the outputs of a run in a kernel of its own; the file stays as it is.

    Args:
        path: of the notebook; it runs in its folder, as Jupyter runs it.
        parameters: values in the place of those that the cell tagged `parameters` assigns.

    Raises:
        ValueError: the cell does not assign a parameter that is given.
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        cell = parameters_cell(notebook)
        known = assigned(cell)
        if unknown := sorted(set(parameters) - known):
            raise ValueError(f"{path.stem} has no parameters {', '.join(unknown)}, expected some "
                             f"of {', '.join(sorted(known))}.")
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    NotebookClient(notebook, timeout=_MOST_SECONDS, kernel_name="python3", record_timing=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def main() -> None:
    """Execute the named notebooks, or all, and write their outputs into the files."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no notebook {', '.join(unknown)}; there are {', '.join(known)}.")
    for name in names or known:
        nbformat.write(executed(known[name]), known[name])
        print(known[name], flush=True)


if __name__ == "__main__":
    main()
