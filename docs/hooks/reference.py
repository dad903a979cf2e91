"""The pages that are made of the source when the site is built: commands, plan, manifest, metrics, techniques."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "strop"
TRIALS = {"fraud": ROOT / "examples" / "fraud" / "fraud.md"}  # figures that lie elsewhere
WIDE = "---\nhide: [toc]\n---\n"  # of tables that are wide, the place beside a page is worth more
HEADS = {
    "optimize": "Keys of strop optimize", "tune": "Keys of strop tune",
    "training": "The table [training]", "preprocessing": "The table [preprocessing]",
}  # fmt: skip
DEMO = re.compile(r"<!-- demo output: begin.*?-->\n(.*?)<!-- demo output: end -->", re.S)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of the source."""
    for name, made in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=made()))
    for path in (*sorted((ROOT / "benchmarks").glob("*.md")), *TRIALS.values()):
        if path.stem != "README":
            files.append(File.generated(config, f"figures/{path.stem}.md", content=WIDE + path.read_text()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in what the README shows of the demo, which is taken from a run."""
    shown = DEMO.search((ROOT / "README.md").read_text())
    assert shown, "README.md shows no output of the demo"
    return markdown.replace("<!-- demo output -->", shown[1])


def commands() -> str:
    """The command line, verb by verb, as the parser has it."""
    from typer.main import get_command

    from strop.cli import app

    parser: Any = get_command(app)
    told = {param.name: param.help for param in parser.commands["optimize"].params}
    text = [
        "# Command line",
        "Made of the parser itself. Every verb takes `--json`: one document on standard output, and nothing else; "
        "progress and prose go to standard error. A flag that has no default here may be left out.",
        "## Exit codes",
        _table(
            ("code", "meaning"),
            [
                ("0", "all limits met"),
                ("1", "unexpected failure"),
                ("2", "wrong usage, or bad input: one paragraph says what, and what to do"),
                ("3", "infeasible: the closest candidate is saved and named"),
                ("4", "inconclusive: the data can't tell, and strop says how many samples would"),
                ("130", "interrupted before there was anything to keep"),
            ],
        ),
    ]
    for name, verb in parser.commands.items():
        given = [param for param in verb.params if not param.opts[0].startswith("-")]
        words = " ".join(_metavar(param) for param in given)
        text += [f"## strop {name}", verb.help, f"```text\nstrop {name} {words} [OPTIONS]\n```".replace("  ", " ")]
        rows = [_flag(param, told) for param in verb.params]
        text.append(_table(("", "takes", "", "default"), rows))
    return "\n\n".join(text)


def _metavar(param: Any) -> str:
    word = param.metavar or param.name.upper()
    return word if param.required else f"[{word}]"


def _flag(param: Any, told: Mapping[str, str]) -> tuple[str, str, str, str]:
    kind = param.type_descriptor.annotation
    named = " ".join(f"`{_metavar(param).strip('[]') if o[0] != '-' else o}`" for o in param.opts)
    many = getattr(kind, "__origin__", None) is list
    takes = "" if kind is bool else f"{(kind.__args__[0] if many else kind).__name__}{', many times' if many else ''}"
    default = "required" if param.required else "" if param.default in (None, False, "") else f"`{param.default}`"
    return (
        named,
        takes.replace("str", "text").replace("Path", "path"),
        _cell(param.help or told.get(param.name, "")),
        default,
    )


def plan() -> str:
    """`strop.toml`, of the schema that ships with strop."""
    schema = json.loads((SOURCE / "plan.schema.json").read_text())
    text = [
        "# Plan file: strop.toml",
        "`strop optimize` and `strop tune` run a plan file in the place of a model, or the `strop.toml` of the working "
        "directory. Its keys are "
        "the flags of the command line; a flag wins over the file, and paths are relative to the file. `strop init` "
        "writes one that suits a model and its data. This page is made of `plan.schema.json`, which ships with strop, "
        "and which editors complete and check keys by.",
    ]
    for name, table in schema["$defs"].items():
        text += [f"## {HEADS.get(name, name)}", table["title"], _keys(table)]
    return "\n\n".join(text)


def manifest() -> str:
    """`manifest.json`, of the schema that ships with strop."""
    schema = json.loads((SOURCE / "manifest.schema.json").read_text())
    text = [
        "# Manifest: manifest.json",
        f"{schema['title']}. {schema['description']}",
        "This page is made of `manifest.schema.json`, which ships with strop (`importlib.resources.files('strop')`).",
        "## The document",
        _keys(schema),
    ]
    for name, part in schema["$defs"].items():
        text += [f"## {name}", part.get("description", ""), _keys(part) if "properties" in part else _kind(part)]
    return "\n\n".join(text)


def _keys(table: Mapping[str, Any], above: str = "") -> str:
    return _table(("key", "is", ""), list(_rows(table, above)))


def _rows(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    """The keys of a table, those of tables in it under its name."""
    needed = table.get("required", ())
    for key, rule in table["properties"].items():
        name = f"{above}{key}"
        said = _cell(rule.get("description") or rule.get("title", ""))
        default = f" `{json.dumps(rule['default'])}` by default." if "default" in rule else ""
        must = "" if key in needed or not needed else " May be left out."
        yield f"`{name}`", _kind(rule), f"{said}{default}{must}".strip()
        inner = rule.get("items", rule) if rule.get("type") == "array" else rule
        if isinstance(more := inner.get("additionalProperties"), Mapping) and "properties" in more:
            yield from _rows(more, f"{name}.NAME.")
        elif "properties" in inner:
            yield from _rows(inner, f"{name}.")


def _kind(rule: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in rule:
        name = rule["$ref"].rpartition("/")[2]
        return f"[{name}](#{slugify(HEADS.get(name, name), '-')})"
    if "const" in rule:
        return f"`{json.dumps(rule['const'])}`"
    if "enum" in rule:
        return " or ".join(f"`{value}`" for value in rule["enum"])
    if "anyOf" in rule:
        return " or ".join(dict.fromkeys(map(_kind, rule["anyOf"])))
    kinds = rule.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    words = {"object": "table", "array": "list", "string": "text", "integer": "whole number", "boolean": "yes or no"}
    said = " or ".join(words.get(kind, kind) for kind in kinds)
    if "array" in kinds and "items" in rule and "properties" not in rule["items"]:
        said = said.replace("list", f"list of {_kind(rule['items'])}")
    if isinstance(rule.get("additionalProperties"), Mapping) and "properties" not in rule["additionalProperties"]:
        said = f"table of {_kind(rule['additionalProperties'])} by name"
    bounds = [
        f"{sign} {rule[key]}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in rule
    ]
    return f"{said} {' and '.join(bounds)}".strip()


def metrics() -> str:
    """The metrics that goals can speak of."""
    from strop.metrics import METRICS

    listed = [metric for metric in METRICS if not re.fullmatch(r"top_([3-9]|10)", metric.name)]

    def rows(quality: bool) -> list[tuple[str, ...]]:
        return [
            (f"`{m.name}`", m.better, m.unit or "", _first(type(m)).replace("`", ""))
            for m in listed if m.quality is quality
        ]  # fmt: skip

    heads = ("name", "better", "unit", "")
    return "\n\n".join(
        [
            "# Metrics",
            "What [goals](goals.md) can speak of. This page is made of the source.",
            "## Of quality",
            "Measured on the same samples with both models. There are `top_2` to `top_10`. `agreement` and `fidelity` "
            "need no labels. A metric of your own is `module:function`: see [Writing a metric](writing-a-metric.md).",
            _table(heads, rows(True)),
            "## Of cost",
            "Measured of the running model, in turn with the original. `server.p99` needs `--rate`, `server.rate` "
            "needs `--p99`, `cost` needs `--price`; `energy` and `power` need a meter that can be read.",
            _table(heads, rows(False)),
        ]
    )


def techniques() -> str:
    """The techniques and runtimes, with their settings and what a search tries of them."""
    from strop import runtimes
    from strop.plan import needed
    from strop.techniques import TECHNIQUES

    text = [
        "# Techniques and runtimes",
        "This page is made of the source. `strop techniques MODEL` tells which of them fit a model of yours, and why "
        "not the others; [When each technique pays](../explanation/techniques.md) tells what they are worth.",
        "A setting is shown with its default, and with what a search may try. One that you fix is not searched: "
        "`--set TECHNIQUE.SETTING=VALUE`, a table `[set.TECHNIQUE]` in `strop.toml`, or `settings=` in Python. What "
        "each does: [Plan file](plan.md#settings).",
        "## Techniques",
    ]
    for technique in TECHNIQUES:
        goes = f"{_names(technique.accepts)} → {technique.returns or 'the same format'}"
        needs = needed(technique.needs)
        text += [
            f"### {technique.label()}",
            _first(technique),
            f"{goes}; phase {technique.phase.name.lower()}{f'; needs {needs}' if needs else ''}"
            f"{'; lossless' if technique.lossless else ''}.",
            _settings(technique),
        ]
    text += ["## Runtimes"]
    for runtime in runtimes.BUILTIN:
        use = " What users call without strop: timed beside the original." if runtime.as_given else ""
        extra = f"Comes with the extra `{runtime.extra}`." if runtime.extra else "Comes with strop."
        text += [f"### {runtime.label()} ", _first(runtime) + use, f"Loads {_names(runtime.loads)}. {extra}"]
        text += [_settings(runtime)]
    return "\n\n".join(filter(None, text))


def _settings(kind: Any) -> str:
    space = kind.space()
    rows = [
        (f"`{name}`", f"`{value!r}`", _domain(space[name]) if name in space else "")
        for name, value in kind().settings().items()
    ]
    return _table(("setting", "default", "tried"), rows) if rows else ""


def _domain(domain: Any) -> str:
    values = getattr(domain, "values", None)
    return ", ".join(f"`{v!r}`" for v in values) if values else f"{domain.low} to {domain.high}"


def _names(formats: Iterable[str]) -> str:
    return " or ".join(sorted(formats))


def _first(kind: type) -> str:
    return " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "command-line": commands, "plan": plan, "manifest": manifest, "metrics": metrics, "techniques": techniques,
}  # fmt: skip
