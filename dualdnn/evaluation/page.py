"""`report.md`: what a run found, where it lies and how to repeat it, for a person to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualdnn.evaluation.markdown import markdown_table as _markdown_table
from dualdnn.evaluation.results import (
    COLUMNS,
    divergences,
    efficiency_text,
    four,
    importance_rows,
    published_table,
    result_rows,
)
from dualdnn.evaluation.student_search import choice_in_words, search_table


def _show(value: Any) -> str:
    """Any value of the report as short text."""
    if isinstance(value, bool) or not isinstance(value, int | float | list | Mapping):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_show(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_show(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _facts(title: str, values: Mapping[str, Any]) -> list[str]:
    shown = [(key, _show(one)) for key, one in values.items() if one not in ("", [], {})]
    return [f"## {title}", "", *_markdown_table(["", ""], shown)] if shown else []


def _towers(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Teacher and students by name, without controls."""
    teacher = {"teacher": report["teacher"]} if "teacher" in report else {}
    return {**teacher, **report.get("students", {})}


def _results(report: Mapping[str, Any]) -> list[str]:
    rows = [
        [{"control": f"control: {row['tower']}", "baseline": f"baseline: {row['name']}"}.get(
            row["role"], row["tower"]),
         *(show(row[key]) if key in row else "" for key, _, show in COLUMNS)]
        for row in result_rows(report)
    ]
    if not rows:
        return ["## Results", "", "Nothing was measured.", ""]
    headings = ["tower", *(heading.replace("- ", "") for _, heading, _ in COLUMNS)]
    weighted = [
        [name, *(four(tower["weighted"][key]) if key in tower["weighted"] else ""
                 for key, _, _ in COLUMNS[:5])]
        for name, tower in _towers(report).items() if "weighted" in tower
    ]
    lines = ["## Results", "", "Metrics of the test part. Latency ratio: teacher time over student "
             "time at 500 rows, one thread.", "", *_markdown_table(headings, rows)]
    if untimed := report.get("teacher", {}).get("untimed"):
        lines += [f"The teacher was timed without its finished members ({', '.join(untimed)}): "
                  "with them its latency is higher.", ""]
    for line in divergences(report):
        lines += [f"{line[0].upper()}{line[1:]}.", ""]
    if weighted:
        lines += ["With sample weights:", "", *_markdown_table(headings[:6], weighted)]
    return lines


def _distillation(report: Mapping[str, Any]) -> list[str]:
    keys = ("latency_ratio_at", "bytes_dense", "bytes_total")
    rows = [
        [name, efficiency_text(student),
         *(_show(student[key]) if key in student else "" for key in keys)]
        for name, student in report.get("students", {}).items()
    ]
    if not rows:
        return []
    return ["## Distillation", "", "Efficiency: (student − alone) / (teacher − alone) on AUC, "
            "where the teacher is clearly above the student trained alone.", "",
            *_markdown_table(["student", "efficiency [95%]", "latency ratio at rows", "bytes dense",
                              "bytes total"], rows)]


def _agreement(report: Mapping[str, Any]) -> list[str]:
    found = {name: student["ranking_agreement"] for name, student in
             report.get("students", {}).items() if student.get("ranking_agreement")}
    if not found:
        return []
    keys = ("top_overlap", "top_overlap_by_chance", "top_groups", "ndcg", "ndcg_groups")
    rows = [[name, *(_show(one[key]) if key in one else "" for key in keys)]
            for name, one in found.items()]
    return ["## Ranking agreement", "", "The student's order of each group against the teacher's: "
            "share of the teacher's first 10 rows among the student's first 10, in groups of more "
            "than 10 rows; NDCG at 10 with the teacher's probabilities as gains.", "",
            *_markdown_table(["student", "top-10 overlap", "by chance", "groups", "NDCG@10",
                              "groups"], rows)]


def _importance(report: Mapping[str, Any]) -> list[str]:
    importance = report.get("importance")
    if not importance:
        return []
    rows = [[field, *(cells.get(tower, "not read") for tower in importance)]
            for field, cells in importance_rows(importance)]
    return ["## Fields", "", "Loss of AUC when all values of a field become unknown, ± 2 standard "
            "errors.", "", *_markdown_table(["field", *importance], rows)]


def _published(report: Mapping[str, Any]) -> list[str]:
    heading, rows = published_table(report)
    if not rows:
        return []
    return ["## Beside the published figures", "", *_markdown_table(heading, rows)]


def _baselines(report: Mapping[str, Any]) -> list[str]:
    keys = ("latency_ratio_at", "bytes_dense", "bytes_total", "status")
    rows = [[name, *(_show(one[key]) if key in one else "" for key in keys),
             _trees(one["gbdt"]) if "gbdt" in one else ""]
            for name, one in report.get("baselines", {}).items()]
    if not rows:
        return []
    return ["## Baselines", "", "Models of others on the same rows: labels alone, an embedding of "
            "their own, the teacher's optimizer, early stopping and averaging. Latency ratio: "
            "teacher time over baseline time; of a baseline on leaves, the trees are part of its "
            "time.", "",
            *_markdown_table(["baseline", "latency ratio at rows", "bytes dense", "bytes total",
                              "status", "trees"], rows)]


def _trees(about: Mapping[str, Any]) -> str:
    return (f"{about['trees']} of at most {about['settings']['leaves']} leaves, grown in "
            f"{about['seconds']:.1f} s")


def _search(report: Mapping[str, Any]) -> list[str]:
    search = report.get("student_search")
    if not search:
        return []
    heading, rows = search_table(search)
    words = choice_in_words(search)
    return ["## Student search", "", f"{words[0].upper()}{words[1:]}. Fastest first; `o`: on the "
            "frontier of validation AUC and latency, `>`: chosen; ms for 500 rows, one thread. "
            "Every row counts once, whatever its sample weight.", "",
            *_markdown_table([heading[1], heading[0], *heading[2:]],
                             [[row[1], row[0], *row[2:]] for row in rows])]


def _slices(report: Mapping[str, Any]) -> list[str]:
    sliced = {name: tower["slices"] for name, tower in _towers(report).items()
              if tower.get("slices")}
    if not sliced:
        return []
    rows = []
    for name in dict.fromkeys(name for slices in sliced.values() for name in slices):
        found = [slices.get(name, {}) for slices in sliced.values()]
        count = next((str(_show(one["rows"])) for one in found if "rows" in one), "")
        numbers = [four(one[key]) if key in one else "" for one in found
                   for key in ("auc", "log_loss")]
        rows.append([name, count, *numbers])
    heading = ["slice", "rows"]
    heading += [f"{tower} {what}" for tower in sliced for what in ("AUC", "log loss")]
    return ["## Slices", "", *_markdown_table(heading, rows)]


def _places(folder: Path, report: Mapping[str, Any]) -> list[str]:
    known = {"report.json": "every number of this page", "config.yaml": "the whole configuration",
             "predictions.parquet": "labels, groups and scores of the test rows, to compare runs",
             "checkpoints": "weights and optimizer state, to resume, evaluate and export"}
    lines = [f"- [`{name}`]({name}): {what}" for name, what in known.items()
             if (folder / name).exists()]
    if next(folder.rglob("events.out.tfevents*"), None):
        lines.append("- TensorBoard: `tensorboard --logdir` with this folder")
    if path := report.get("export", {}).get("path"):
        lines.append(f"- exported student: `{path}`")
    return ["## Where things lie", "", *lines, ""]


def report_page(
    folder: Path,
    report: Mapping[str, Any],
    *,
    figures: Sequence[str] = (),
    config_text: str = "",
    command: str = "",
) -> str:
    """The page as Markdown; a section without content is left out.

    Args:
        folder: the run folder, to link the files that exist in it.
        report: plain values in the layout of the contract.
        figures: lines of Markdown that show the figures.
        config_text: the resolved configuration as YAML.
        command: the command line that repeats the run.
    """
    head = {key: report[key] for key in ("job", "status") if key in report}
    head |= {f"data {key}": one for key, one in report.get("data", {}).items()}
    head |= {f"seconds {key}": one for key, one in report.get("seconds", {}).items()}
    head |= {key: report[key] for key in ("examples_per_second",) if key in report}
    head |= {"revision": report["lineage"]["git_revision"]} if "lineage" in report else {}
    lines = [f"# {report.get('job', 'run')}: {report.get('data', {}).get('name', '')}".rstrip(": "),
             "", *_markdown_table(["", ""], [(k, _show(v)) for k, v in head.items() if v != []])]
    lines += _search(report) + _results(report) + _published(report) + _distillation(report)
    lines += _baselines(report)
    lines += _agreement(report) + _importance(report) + _slices(report)
    lines += ["## Figures", "", *figures] if figures else []
    lines += _facts("Export", report.get("export", {})) + _places(folder, report)
    if command or config_text:
        lines += ["## How to reproduce", ""]
    if command:
        lines += ["```", command.strip(), "```", ""]
    if config_text:
        lines += ["<details><summary>configuration</summary>", "", "```yaml", config_text.strip(),
                  "```", "", "</details>", ""]
    return "\n".join(lines)
