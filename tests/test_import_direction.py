import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Imports point from right to left only.
ORDER = [
    {"errors", "schema", "config", "storage"}, {"data"}, {"baselines"}, {"layers"},
    {"distillation"}, {"models"}, {"evaluation"}, {"training"}, {"export"},
]
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
# Who may import what comes from outside and must not spread.
ALLOWED = {
    "hydra": (), "omegaconf": (), "yaml": (), "pipelines": (), "sklearn": (), "tensorboard": (),
    "keras": (),
    "lightgbm": ("baselines.gbdt",),
    "mlflow": ("tracking",),
    "tf_keras": ("layers", "models", "training"),
    "tensorflow_recommenders": ("layers", "models", "training"),
    "matplotlib": ("evaluation.plots", "evaluation.results", "evaluation.report",
                   "evaluation.page", "evaluation.comparison_plots", "evaluation.pareto_picture"),
    "rich": ("evaluation.plots", "evaluation.results", "evaluation.report", "evaluation.page"),
}


@functools.cache
def modules():
    """Every module of the library as (name below dualdnn, parsed source)."""
    found = []
    for path in sorted((ROOT / "dualdnn").rglob("*.py")):
        parts = path.relative_to(ROOT / "dualdnn").with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found.append((name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree):
    """Dotted names of all that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner_imports():
    """(importing module, imported module) inside dualdnn, both below `dualdnn`."""
    return [(name, target.removeprefix("dualdnn."))
            for name, tree in modules() for target in imported(tree)
            if target.startswith("dualdnn.")]


def test_every_part_of_the_library_has_a_place_in_the_order():
    parts = {name.split(".")[0] for name, _ in modules()}
    assert parts - {"", "tracking"} == set(RANK)


def test_imports_flow_one_way():
    against = [
        f"{name} imports {target}" for name, target in inner_imports()
        if name != "tracking" and target.split(".")[0] != "__version__"
        and RANK[target.split(".")[0]] > RANK[name.split(".")[0]]
    ]
    assert against == []


def test_the_foundations_do_not_import_each_other_in_a_circle():
    foundations = {(name.split(".")[0], target.split(".")[0]) for name, target in inner_imports()
                   if name.split(".")[0] in ORDER[0]}
    assert {target for name, target in foundations if name != target} <= {"errors"}


def test_tracking_stands_apart():
    of_tracking = {target.split(".")[0] for name, target in inner_imports() if name == "tracking"}
    assert of_tracking <= {"storage", "errors"}
    assert [name for name, target in inner_imports() if target.split(".")[0] == "tracking"] == []


@pytest.mark.parametrize("package", ALLOWED)
def test_what_comes_from_outside_stays_where_it_belongs(package):
    allowed = ALLOWED[package]
    astray = [
        name for name, tree in modules()
        if any(target.split(".")[0] == package for target in imported(tree))
        and not any(name == place or name.startswith(f"{place}.") for place in allowed)
    ]
    assert astray == []


def test_keras_is_never_reached_through_tensorflow():
    astray = [
        name for name, tree in modules()
        if any(isinstance(node, ast.Attribute) and node.attr == "keras"
               and isinstance(node.value, ast.Name) and node.value.id == "tf"
               for node in ast.walk(tree))
        or any(target.startswith("tensorflow.keras") for target in imported(tree))
    ]
    assert astray == []


def test_the_check_sees_imports():
    tree = ast.parse("import a.b\ndef f():\n    from c.d import e\n")
    assert list(imported(tree)) == ["a.b", "c.d.e"]
    assert len(modules()) > 40
