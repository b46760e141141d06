"""The frame of a page of one file: style, head and body, nothing that is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; color: #1d2129;
  margin: 0 auto; padding: 24px 28px 60px; max-width: 1100px; background: #fff; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 16px; margin: 34px 0 6px; }
h3 { font-size: 14px; margin: 0 0 6px; }
p { margin: 4px 0 10px; } .quiet, .quiet * { color: #6a717c; }
code { font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; background: #f1f2f4;
  padding: 0 3px; border-radius: 3px; }
svg { display: block; max-width: 100%; height: auto; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0 4px; }
.tile { border: 1px solid #e3e5e8; border-radius: 8px; padding: 7px 14px; }
.tile b { display: block; font-size: 18px; } .tile span { color: #6a717c; font-size: 12px; }
.finding { border-left: 4px solid; padding: 5px 0 5px 12px; margin: 8px 0; }
.finding p { margin: 0; } .error { border-color: #b3261e; } .warning { border-color: #E69F00; }
.note { border-color: #9aa1ab; }
.finding b { text-transform: uppercase; font-size: 11px; letter-spacing: .05em; }
.error b { color: #b3261e; } .warning b { color: #9a6700; } .note b { color: #6a717c; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 500; color: #6a717c; font-size: 12px; vertical-align: bottom;
  border-bottom: 1px solid #c9cdd3; padding: 4px 8px; }
td { text-align: right; border-bottom: 1px solid #eceef0; padding: 3px 8px; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.chip { font-size: 11px; color: #6a717c; border: 1px solid #dfe2e6; border-radius: 9px;
  padding: 0 6px; margin-left: 4px; } .hot { color: #b3261e; font-weight: 600; }
.cards { display: flex; flex-wrap: wrap; gap: 14px; }
.card { border: 1px solid #e3e5e8; border-radius: 8px; padding: 10px 14px; width: 322px; }
.card td, .card th { padding: 1px 4px; font-size: 12.5px; border: 0; }
.card td:first-child { max-width: 150px; overflow: hidden; text-overflow: ellipsis; }
.bar { display: inline-block; height: 8px; background: #0072B2; border-radius: 2px; }
pre { background: #f6f7f8; padding: 10px 12px; border-radius: 8px; overflow-x: auto;
  font-size: 12px; white-space: pre-wrap; }
"""


def document(title: str, body: Sequence[str]) -> str:
    """A whole page.

    Args:
        title: as plain text.
        body: parts of HTML.
    """
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width'>"
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
            f"<body>{''.join(body)}</body></html>\n")


def html_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts; the first column is left-aligned, the others to the right."""
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line('th', heading)}{''.join(line('td', row) for row in rows)}</table>"


def embedded_png(png: bytes, words: str) -> str:
    """A picture that is part of the page."""
    data = base64.b64encode(png).decode()
    return (f'<img src="data:image/png;base64,{data}" alt="{html.escape(words)}" '
            'style="max-width:100%;height:auto">')
