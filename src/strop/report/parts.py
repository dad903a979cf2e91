"""Parts: what the pages have in common: the skeleton, tables, lists, figures. Every name is escaped."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

from ..units import spread, stored, visible

Section: TypeAlias = tuple[str, str, str]
"""A name to link to, a head, and HTML; one without HTML is left out."""

SIGNS = {"met": "✔", "inconclusive": "?", "infeasible": "✕", "broken": "✕"}
"""Beside a verdict's word, for the eye that does not see its colour."""


def document(title: str, head: str, sections: Iterable[Section]) -> str:
    """One self-contained page, which may load nothing, and run no code but its own.

    Args:
        title: As text.
        head: HTML under the title.
        sections: In their order; empty ones are left out.
    """
    told = [section for section in sections if section[2]]
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(said)}</h2>{html}</section>'
        for name, said, html in told
    )
    links = "".join(f'<li><a href="#{name}">{escape(said)}</a></li>' for name, said, _ in told)
    header = f'<header><h1>{escape(title)}</h1>{head}<nav aria-label="Contents"><ul>{links}</ul></nav></header>'
    return sheet(title, f"{header}<main>{body}</main>")


def sheet(title: str, body: str) -> str:
    """HTML as one page by itself, with what draws the figures in it."""
    scripts = [_asset("page.js")]
    if "<figure" in body:
        from plotly.offline import get_plotlyjs

        scripts.insert(0, get_plotlyjs())
    return (
        visible(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'
            f'<meta name="viewport" content="width=device-width"><style>{_asset("page.css")}</style></head><body>{body}'
        )
        + "".join(f"<script>{script}</script>" for script in scripts)  # last: what is to be read is there before
        + "</body></html>\n"
    )


def _policy(scripts: Sequence[str]) -> str:
    """What a browser lets the page do: show itself, and run these scripts, should a name ever get through unescaped."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {allowed}"


def _asset(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def figure(data: Mapping[str, Any], about: str, controls: str = "", rows: int = 0, caption: str = "") -> str:
    """What the page's script draws, with what it is drawn from.

    Args:
        data: Plain data: `data` and `layout` of Plotly's, or `groups` and `metrics` of `frontier`. Texts in it are
            HTML, as Plotly takes them.
        about: As text: what is to be seen, for those who can't.
        controls: HTML above it, of a figure that is the page's main one.
        rows: Of a figure that is as high as it has rows.
        caption: As text, above it; the script writes that of the main one, below.
    """
    plain = json.dumps(data).replace("&quot;", '\\"')  # which Plotly does not take for a sign, as it takes others
    for sign in "<>&":  # which would end the script
        plain = plain.replace(sign, f"\\u{ord(sign):04x}")
    high = f' style="height: {6 + 1.4 * rows:.0f}rem"' if rows else ""
    above, below = (controls, '<figcaption class="note"></figcaption>') if controls else ("", "")
    if caption:
        above += f"<figcaption>{escape(caption)}</figcaption>"
    return (
        f'<figure{" class=large" if controls else ""}>{above}<div class="plot"{high} role="img" '
        f'aria-label="{escape(about)}"></div>{below}<script type="application/json">{plain}</script></figure>'
    )


def badge(verdict: str, more: str = "") -> str:
    """A verdict by sign, word and colour; what is said of it in the same."""
    return f'<span class="{escape(verdict)}">{SIGNS.get(verdict, "")}&nbsp;{escape(verdict + more)}</span>'


def part(head: str, draw: Callable[[Any], str], found: Any) -> str:
    """A part of what may be another strop's, under its head; nothing where nothing was found, or nothing comes of it.

    Args:
        draw: Makes HTML of it, as this strop would have told it.
        found: Where it is told otherwise, the part is left out, and said to be.
    """
    try:
        html = draw(found) if found else ""
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        html = f'<p class="note">Left out: the strop that wrote this told it otherwise ({escape(why)}).</p>'
    return f"<h3>{escape(head)}</h3>{html}" if html else ""


def bullets(lines: Sequence[str], head: str = "") -> str:
    """A list, under a head where it has one; nothing where there is nothing to list."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (f"<h3>{escape(head)}</h3>" if head else "") + f"<ul>{items}</ul>"


def code(text: str, about: str) -> str:
    """Text to be copied."""
    text = f'<pre tabindex="0" role="group" aria-label="{escape(about)}">{escape(text)}</pre>'
    return f'<div class="code">{text}</div>'


def spread_text(found: Mapping[str, Any]) -> str:
    """A figure with its bounds."""
    return escape(spread(stored(found), found["unit"]))


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str | tuple[str, object]]], kind: str = "wide",
    sortable: bool = False,
) -> str:  # fmt: skip
    """A table of cells that are HTML; the first of a row is its head. A row that is shorter than the heads ends in a
    cell that spans the rest. Columns in which nothing stands are left out.

    Args:
        caption: As text, for whoever does not see the head above it.
        heads: As text.
        rows: A cell is HTML, or a pair of HTML and what to sort it by.
        kind: Classes of what it scrolls in.
        sortable: Whether a person may sort it.
    """
    kept = [at for at in range(len(heads)) if not at or any(_html(row[at]) for row in rows if at < len(row))]
    head = "".join(f'<th scope="col">{escape(heads[at])}</th>' for at in kept)
    body = []
    for row in rows:
        cells = []
        own = [at for at in kept if at < len(row)]
        for at in own:
            html, cell = _html(row[at]), row[at]
            sorted_by = f' data-key="{escape(str(cell[1]))}"' if isinstance(cell, tuple) else ""
            rest = len(kept) - len(own) + 1 if at == own[-1] else 1
            spans = f' colspan="{rest}"' if rest > 1 else ""
            narrow = ' class="n"' if len(html) < (32 if at else 6) else ""
            opened = "td" if at else 'th scope="row"'
            cells.append(f"<{opened}{narrow}{spans}{sorted_by}>{html}</{opened[:2]}>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    sorts = ' class="sortable"' if sortable else ""
    return (
        f'<div class="{kind}" tabindex="0" role="group" aria-label="{escape(caption)}"><table{sorts}>'
        f'<caption class="hidden">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _html(cell: str | tuple[str, object]) -> str:
    return cell[0] if isinstance(cell, tuple) else cell
