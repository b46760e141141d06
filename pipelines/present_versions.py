"""What `publish` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualdnn.export.champion import CHAMPION_FILE, MODELS_CONFIG_FILE, Champion, champion_of
from dualdnn.export.versions import Version

_STYLES = {"champion": "bold green", "previous": "green", "canary": "cyan", "broken": "bold red"}


def changed(name: str, before: Champion | None, after: Champion) -> str:
    """A promotion, a rollback or a trial in one sentence."""
    if before == after:
        return f"version {after.version} is the champion of {name} already"
    if before is None or before.version != after.version:
        was = f", before it version {before.version}" if before else ""
        return f"the champion of {name} is now version {after.version}{was}"
    if after.canary is None:
        return f"no version of {name} is on trial any more"
    return f"version {after.canary} of {name} is on trial beside champion {after.version}"


def pruned(gone: Sequence[Version]) -> str:
    """What a prune deleted."""
    if not gone:
        return "nothing to delete"
    freed = sum(version.bytes for version in gone)
    numbers = ", ".join(str(version.version) for version in gone)
    return f"deleted version {numbers} with their training states; {freed / 1e6:.1f} MB of models"


def _days(lineage: Mapping[str, Any]) -> str:
    """First and last day of training."""
    days = lineage.get("days")
    if isinstance(days, Mapping):
        days = list(days.values())
    if not isinstance(days, Sequence) or isinstance(days, str) or not days:
        return str(days or "-")
    return f"{days[0]}\n{days[-1]}" if len(days) > 1 else str(days[0])


def _number(metrics: Mapping[str, Any], key: str) -> str:
    value = metrics.get(key)
    return f"{value:.4f}" if isinstance(value, int | float) else "-"


def show_versions(console: Console, folder: Path, versions: Sequence[Version]) -> None:
    """One row per version, newest first, then what is wrong and who says which is served."""
    table = Table(title=f"versions of {folder.name}", title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading, justify in (("version", "right"), ("status", "left"), ("created", "left"),
                             ("AUC", "right"), ("log\nloss", "right"),
                             ("first and\nlast day", "left"), ("data", "left"),
                             ("revision", "left"), ("parent", "right"), ("MB", "right")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for one in versions:
        lineage = one.lineage
        parent = lineage.get("parent_version")
        table.add_row(
            str(one.version), Text(one.status, style=_STYLES.get(one.status, "")),
            one.created[:16].replace("T", " "), _number(one.metrics, "auc"),
            _number(one.metrics, "log_loss"), _days(lineage),
            str(lineage.get("data_fingerprint", "-"))[:8],
            str(lineage.get("git_revision", "-"))[:12], "-" if parent is None else str(parent),
            f"{one.bytes / 1e6:.1f}",
        )
    console.print(table if versions else f"{folder} holds no version")
    for one in versions:
        for fault in one.faults:
            console.print(Text(f"version {one.version} is broken: {fault}", style="red"))
    champion = champion_of(folder)
    if champion is None:
        console.print("no champion yet; `action=promote version=N` makes one")
        return
    console.print(Text(f"champion  version {champion.version} since {champion.since}, by "
                       f"{champion.action}: {champion.reason}"))
    if champion.version not in [one.version for one in versions if not one.faults]:
        console.print(Text("the champion is missing or broken: restore its files, or roll back",
                           style="bold red"))
    console.print(f"says so   {folder / CHAMPION_FILE}", highlight=False)
    console.print(f"server    {folder / MODELS_CONFIG_FILE}", highlight=False)
