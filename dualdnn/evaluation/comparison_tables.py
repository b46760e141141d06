"""A comparison as tables of text, for the terminal and the page, and as flat rows for CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = (("auc", "AUC"), ("log_loss", "log loss"), ("grouped_auc", "grouped AUC"),
            ("calibration", "calibration"), ("ece", "ECE"), ("top_overlap", "top-10 overlap"),
            ("ndcg", "NDCG@10"))
# ECE is left to the CSV files: a line has no room for it.
_PAIRED = (("auc", "AUC"), ("log_loss", "log loss"))

Table = tuple[list[str], list[list[str]]]


def _mean(found: Mapping[str, float] | None, *, spread: bool = True) -> str:
    if not found:
        return ""
    beside = f" ± {found['spread']:.4f}" if spread and "spread" in found else ""
    return f"{found['mean']:.4f}{beside}"


def p_text(p: float | None) -> str:
    """A p-value with two digits that count."""
    if p is None:
        return ""
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def interval_text(found: Mapping[str, Any] | None) -> str:
    """`+0.0012 [-0.0003, +0.0027]`; without brackets where no error is known."""
    if not found:
        return ""
    if "low" not in found:
        return f"{found['value']:+.4f}"
    return f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def share_text(found: Mapping[str, float] | None) -> str:
    """A share with its interval, where it has one, as `0.87 [0.65, 1.02]`."""
    if not found:
        return ""
    digits = 2 if max(map(abs, found.values())) < 9.995 else 0
    value, *limits = (f"{found[key]:.{digits}f}" for key in ("value", "low", "high")
                      if key in found)
    return f"{value} [{', '.join(limits)}]" if limits else value


def difference_label(row: Mapping[str, Any]) -> str:
    """`B light − A light`, within one system `A: light − teacher`."""
    if row["system"] == row["to_system"]:
        return f"{row['system']}: {row['tower']} − {row['to_tower']}"
    return f"{row['system']} {row['tower']} − {row['to_system']} {row['to_tower']}"


def metric_table(comparison: Mapping[str, Any], *, narrow: bool = False) -> Table:
    """A row per system and tower; columns that nobody has are left out.

    Args:
        comparison: of `compared`.
        narrow: for a terminal, the spread of the first three metrics alone.
    """
    rows = comparison["metrics"]
    columns = [(key, name, not narrow or place < 3) for place, (key, name) in enumerate(_COLUMNS)
               if any(key in row for row in rows)]
    return (["tower", *(name for _, name, _ in columns)],
            [[f"{row['system']} {row['tower']}",
              *(_mean(row.get(key), spread=spread) for key, _, spread in columns)]
             for row in rows])


def difference_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row per difference: 95% interval and corrected p-value of both metrics."""
    heading = ["difference"]
    for _, name in _PAIRED:
        heading += [f"{name} [95%]", "p (Holm)"]
    table = []
    for row in rows:
        cells = [difference_label(row)]
        for key, _ in _PAIRED:
            found = row.get(key)
            cells += ["the same scores" if row.get("identical") else interval_text(found),
                      p_text((found or {}).get("p_holm"))]
        table.append(cells)
    return heading, table


def slice_table(comparison: Mapping[str, Any], *, narrow: bool = False) -> Table:
    """A row per slice and difference.

    Args:
        comparison: of `compared`.
        narrow: for a terminal, with a star at what stays below 0.05 after the correction instead
            of p-values and of the tower's own AUC.
    """
    rows = comparison["slices"]
    if not narrow:
        heading, table = difference_table(rows)
        return (["slice", "rows", heading[0], "AUC of the first", *heading[1:]],
                [[row["slice"], f"{row['rows']:,}", cells[0], _mean(row.get("auc_of_tower")),
                  *cells[1:]] for row, cells in zip(rows, table, strict=True)])

    def starred(found: Mapping[str, Any] | None) -> str:
        return interval_text(found) + ("*" if found and found.get("p_holm", 1) < 0.05 else " ")

    return (["slice", "rows", "difference", *(f"{name} [95%] " for _, name in _PAIRED)],
            [[row["slice"], f"{row['rows']:,}", difference_label(row),
              *(starred(row.get(key)) for key, _ in _PAIRED)] for row in rows])


def configuration_table(differing: Mapping[str, Mapping[str, str]],
                        systems: Sequence[str]) -> Table:
    """A row per setting that differs, a column per system."""
    return (["setting", *systems],
            [[key, *(values.get(name, "") for name in systems)]
             for key, values in differing.items()])


def flat_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Nested numbers as `auc.mean`, `auc.low`, for CSV."""
    flat = []
    for row in rows:
        made: dict[str, Any] = {}
        for key, value in row.items():
            if isinstance(value, Mapping):
                made.update({f"{key}.{name}": one for name, one in value.items()})
            else:
                made[key] = value
        flat.append(made)
    return flat
