"""The table of schemes: who is in it, what it is compared with, and that it fits a terminal."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from dualdnn.evaluation.comparison import Rows
from dualdnn.evaluation.comparison_page import comparison_page
from dualdnn.evaluation.metrics import auc, log_loss
from dualdnn.evaluation.scheme_page import scheme_lead, scheme_markdown
from dualdnn.evaluation.scheme_table import (
    compared_schemes,
    flat_scheme_rows,
    scheme_rows,
    scheme_table,
)
from pipelines.present_schemes import show_schemes

ROWS, SEEDS = 800, [1, 2, 3]
NOISE = {"co_training": 0.2, "two_stage_own_embedding": 0.4, "rocket_launching": 1.0, "none": 2.0}


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    truth = 1.5 * rng.normal(size=ROWS)
    labels = (rng.random(ROWS) < 1 / (1 + np.exp(-truth))).astype(np.uint8)

    def tower(noise):
        return (truth + noise * rng.normal(size=(3, ROWS))).astype(np.float32)

    rows = Rows(labels=labels, groups=rng.integers(0, 60, ROWS))
    students = {name: tower(noise) for name, noise in NOISE.items()}
    return rows, students, tower(0.1), {"rocket_launching": tower(0.9)}


@pytest.fixture(scope="module")
def comparison(scene):
    rows, students, teacher, own = scene
    return compared_schemes(rows, SEEDS, students, teacher, own, baseline="co_training",
                            resamples=200)


def section(comparison):
    return {"baseline": "co_training", "table": scheme_rows(comparison, "co_training"),
            "notes": ["a note"], "comparison": comparison,
            "runs": [{"seed": seed, "schemes": list(NOISE), "folder": f"run{seed}"}
                     for seed in SEEDS]}


def test_the_rows_of_the_table(scene, comparison):
    rows, students, teacher, own = scene
    table = {row["name"]: row for row in scheme_rows(comparison, "co_training")}
    assert list(table) == ["teacher", *NOISE, "teacher of rocket_launching"]
    scores = {"teacher": teacher, **students,
              "teacher of rocket_launching": own["rocket_launching"]}
    for name, row in table.items():
        by_seed = [auc(rows.labels, one) for one in scores[name]]
        assert row["metrics"]["auc"]["mean"] == pytest.approx(np.mean(by_seed))
        assert row["metrics"]["auc"]["spread"] == pytest.approx(np.std(by_seed, ddof=1))
        assert {"log_loss", "ece"} <= set(row["metrics"])


def test_what_each_is_compared_with(scene, comparison):
    rows, students, teacher, own = scene
    table = {row["name"]: row for row in scheme_rows(comparison, "co_training")}
    assert "less" not in table["co_training"]
    measures = {"auc": auc, "log_loss": lambda labels, one: log_loss(labels, one, None)}
    for name, first, less, second in (
            ("teacher", teacher, "co_training", students["co_training"]),
            ("none", students["none"], "co_training", students["co_training"]),
            ("teacher of rocket_launching", own["rocket_launching"], "teacher", teacher)):
        assert table[name]["less"] == less
        for metric, measure in measures.items():
            found = table[name]["difference"][metric]
            expected = np.mean([measure(rows.labels, a) - measure(rows.labels, b)
                                for a, b in zip(first, second, strict=True)])
            assert found["value"] == pytest.approx(expected)
            assert found["low"] < found["value"] < found["high"]
            assert found["p_holm"] >= found["p"]


def test_efficiency_is_measured_from_the_untouched_teacher(scene, comparison):
    rows, students, teacher, _ = scene
    table = {row["name"]: row for row in scheme_rows(comparison, "co_training")}

    def mean(scores):
        return np.mean([auc(rows.labels, one) for one in scores])

    room = mean(teacher) - mean(students["none"])
    for name in ("co_training", "rocket_launching"):
        assert table[name]["efficiency"]["value"] == pytest.approx(
            (mean(students[name]) - mean(students["none"])) / room)
    assert "efficiency" not in table["none"]
    assert "efficiency" not in table["teacher"]


def test_without_the_student_alone_there_is_no_efficiency(scene):
    rows, students, teacher, _ = scene
    found = compared_schemes(rows, SEEDS, {"co_training": students["co_training"]}, teacher, {},
                             baseline="co_training", resamples=100)
    assert found["efficiency"] == {}
    table = scheme_rows(found, "co_training")
    assert [row["name"] for row in table] == ["teacher", "co_training"]


def test_one_seed_has_no_spread(scene):
    rows, students, teacher, own = scene
    found = compared_schemes(rows, [1], {name: one[:1] for name, one in students.items()},
                             teacher[:1], {name: one[:1] for name, one in own.items()},
                             baseline="none", resamples=100)
    table = scheme_rows(found, "none")
    assert all("spread" not in row["metrics"]["auc"] for row in table)
    assert [row.get("less") for row in table] == ["none"] * 4 + [None, "teacher"]


def test_the_table_fits_a_terminal(comparison, capsys):
    wide = {"value": -0.73, "low": -1.34, "high": -0.36}  # the widest there is
    efficiency = {**comparison["efficiency"], "two_stage_own_embedding": wide}
    show_schemes(Console(width=110), section({**comparison, "efficiency": efficiency}))
    out = capsys.readouterr().out
    assert "-0.36]" in out
    assert "…" not in out
    assert "two_stage_own_embedding" in out
    assert max(map(len, out.splitlines()[:30])) <= 110
    heading, rows = scheme_table(section(comparison)["table"], "co_training")
    assert len(rows) == 3 * 6
    assert all(len(row) == len(heading) for row in rows)
    assert [row[0] for row in rows[-3:]] == ["teacher of", "  rocket_launching", "  less teacher"]


def test_without_an_auc_every_row_is_named_all_the_same(scene):
    rows, students, teacher, own = scene
    found = compared_schemes(replace(rows, labels=np.zeros(ROWS, np.uint8)), SEEDS, students,
                             teacher, own, baseline="co_training", resamples=100)
    _, table = scheme_table(scheme_rows(found, "co_training"), "co_training")
    assert {row[1] for row in table} == {"log loss", "ECE"}
    assert [row[0] for row in table] == [
        *(word for name in ("teacher", *NOISE) for word in (name, "")),
        "teacher of", "  rocket_launching  less teacher"]


def test_page_and_csv_have_the_same_rows(comparison):
    given = section(comparison)
    page = comparison_page(
        {"data": "tiny", "systems": {}, "notes": [], "configuration": {}, "command": "c",
         "comparison": comparison}, {}, lead=scheme_lead(given))
    markdown = scheme_markdown({"scheme_comparison": given, "data": {"name": "tiny"},
                                "command": "the command"}, picture=True)
    for text in (page, markdown):
        assert "two_stage_own_embedding" in text
        assert "Efficiency: (student − none) / (teacher − none)" in text
    for words in ("a note", "`run2`", "the command", "![differences](differences.png)"):
        assert words in markdown
    flat = {row["name"]: row for row in flat_scheme_rows(given["table"])}
    none = flat["none"]
    assert none["less"] == "co_training"
    assert none["less.auc.value"] == pytest.approx(
        none["auc.mean"] - flat["co_training"]["auc.mean"])
    assert "efficiency.low" in flat["co_training"]
