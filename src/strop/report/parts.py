"""Parts: what the pages have in common: the skeleton, tables, lists, limits. Every name is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..advice import would_decide
from ..units import named, spread, stored, visible

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #17803d; --bad: #b3261e; --open: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --good: #5bd68a; --bad: #ff8a80; --open: #f0b849 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top }
.dense { font-size: .86rem } .dense td.n { white-space: nowrap } .dense th, .dense td { padding: .25rem .6rem }
td.n { font-variant-numeric: tabular-nums } th { background: var(--soft) }
.met { color: var(--good) } .broken, .infeasible { color: var(--bad) } .inconclusive { color: var(--open) }
.verdict { font-weight: 700 } .note { opacity: .75; font-size: .9em } h3 { font-size: 1rem; margin-bottom: .4rem }
pre { background: var(--soft); padding: .8rem; overflow-x: auto }
"""


def document(title: str, parts: Iterable[str], style: str = "", script: str = "") -> str:
    """One self-contained page.

    Args:
        title: As text.
        parts: HTML.
        style: Further rules.
        script: Code to run before what the parts hold.
    """
    code = f"<script>{script}</script>" if script else ""
    return (
        visible(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}{style}</style>'
        )
        + code
        + visible(f"</head><body><main>{''.join(parts)}</main></body></html>\n")
    )


def limits_table(limits: Iterable[Mapping[str, Any]]) -> str:
    """Limit by limit: the verdict, and what would decide an open one."""
    return table(["limit", "verdict"], [[limit_text(found), verdict_text(found)] for found in limits])


def limit_text(found: Mapping[str, Any]) -> str:
    """A limit, and the slice that decides it."""
    where = f" ({found['slice']})" if found.get("slice") else ""
    return escape(named(found["limit"], found.get("source", "")) + where)


def verdict_text(found: Mapping[str, Any]) -> str:
    """A verdict, in its colour."""
    verdict = found["verdict"]
    open_ = verdict == "inconclusive" and not found.get("why")
    needed = f", {would_decide(found['limit'], found.get('needed'))}" if open_ else ""
    why = f": {found['why']}" if found.get("why") else ""
    return f'<span class="{escape(verdict)}">{escape(verdict + needed + why)}</span>'


def bullets(lines: Sequence[str], head: str) -> str:
    """A list, under a head where it has one; nothing where there is nothing to list."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (f"<h2>{escape(head)}</h2>" if head else "") + f"<ul>{items}</ul>"


def spread_text(found: Mapping[str, Any]) -> str:
    """A figure with its bounds."""
    return escape(spread(stored(found), found["unit"]))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "wide") -> str:
    """A table of cells that are HTML. A row that is shorter than the head ends in a cell that spans the rest."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    body = []
    for first, *others in rows:
        cells = [f"<td class=n>{cell}</td>" for cell in others]
        if (rest := len(heads) - len(others)) > 1:
            cells[-1] = f'<td colspan="{rest}">{others[-1]}</td>'
        body.append(f"<tr><td>{first}</td>{''.join(cells)}</tr>")
    return f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
