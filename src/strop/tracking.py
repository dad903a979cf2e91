"""Tracking: what a search came to, in MLflow: a run for the search, one nested in it for each candidate, and the model.

It is written when the search is over, from its bundle: whatever becomes of the server, nothing is lost. A search that
handed nothing over is logged from its run directory.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._lazy import installed, lazy
from ._plain import told
from .errors import MissingDependency, RunFailed, StropError
from .goal import Goal
from .opened import CANDIDATES, MANIFEST, REPORT, Opened
from .rundir import PLAN, read_json

if TYPE_CHECKING:
    import mlflow
else:
    mlflow = lazy("mlflow", "mlflow")

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""MLflow's own would wait for minutes at a server that does not answer."""
LONGEST = 500  # characters of a value, which every version of a server takes
WORST = ("broken", "inconclusive", "met")


def check(asked: bool = True) -> None:
    """Raises: MissingDependency: MLflow is asked for, and not installed."""
    if asked and not installed("mlflow"):
        raise MissingDependency(
            "a search is logged by MLflow, which is not installed. Install it with: pip install 'strop[mlflow]'"
        )


def log(bundle: Opened, *files: Path) -> str:
    """Log a bundle, and the search that it came from, to where MLflow's environment variables say.

    These are `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`, `MLFLOW_RUN_ID` and the rest of MLflow's own. Within an
    active run the search is nested in that.

    Args:
        bundle: What was handed over. Its model is logged where it won: `mlflow.pyfunc.load_model(uri).predict(inputs)`
            then answers as `Bundle.predict` does. Samples in the bundle go with it.
        files: What else belongs to the run.

    Returns:
        The id of the run.

    Raises:
        MissingDependency: MLflow is not installed.
        RunFailed: MLflow did not take it, with its own words and the next step.
    """
    table = bundle.folder / CANDIDATES
    tried = read_json(table, list) if table.is_file() else []
    kept = (bundle.folder / MANIFEST, bundle.folder / REPORT, table, *files)
    again = f"log it then with strop.Bundle.load({str(bundle.folder)!r}).to_mlflow()"
    return _log(bundle.manifest, tried, kept, f"The bundle {bundle.folder} is whole", again, bundle)


def log_run(run: Path, tried: Sequence[Mapping[str, Any]]) -> str:
    """Log a search that handed nothing over: what was asked, what came of each candidate, and why there is nothing.

    Args:
        run: The run directory.
        tried: The candidates, as a bundle has them.

    Raises:
        As `log` does.
    """
    manifest = read_json(run / MANIFEST, dict)
    again = f"log it then with strop optimize --mlflow --resume {run}"
    return _log(manifest, tried, (run / MANIFEST, run / PLAN), f"The run {run} is whole", again)


def _log(
    manifest: Mapping[str, Any],
    tried: Sequence[Mapping[str, Any]],
    files: Sequence[Path],
    whole: str,
    again: str,
    bundle: Opened | None = None,
) -> str:
    """Log a search and its candidates, files and model: the id of the run."""
    check()
    try:
        with _patient(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what MLflow itself is made of
            nested = mlflow.active_run() is not None
            with mlflow.start_run(run_name=f"strop {manifest['original']['source']}", nested=nested) as run:
                parent = run.info.run_id
                for candidate in tried:
                    _nest(candidate, run.info.experiment_id, parent)
                _batch(parent, _of_search(manifest), _metrics_of_search(manifest), _tags(manifest, manifest["verdict"]))
                for file in files:
                    if file.is_file():
                        mlflow.log_artifact(str(file))
                if bundle and manifest["winner"]:
                    _log_model(bundle)
            return str(parent)
    except Exception as error:  # of a server, a database, a disk, or a proxy between
        raise RunFailed(
            f"MLflow did not take the search ({told(error)}). {whole}: look at MLFLOW_TRACKING_URI, and {again}."
        ) from error


def logged(log: Callable[[], str]) -> str:
    """Log it, and say where, or why not: a sentence, since what the search came to stands either way."""
    try:
        return f"logged to MLflow as run {log()}"
    except StropError as error:
        return str(error)


def _load_pyfunc(data_path: str) -> _Served:
    """What `mlflow.pyfunc.load_model` calls, with the folder that the bundle was copied to."""
    return _Served(Opened.load(data_path))


class _Served:
    """A bundle as MLflow calls its models."""

    def __init__(self, bundle: Opened):
        self.bundle, self.runner = bundle, bundle.runner()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.bundle.predict(model_input, self.runner)


def _log_model(bundle: Opened) -> None:
    extra = bundle.runtime.extra
    needed = f"strop[{extra}]" if extra else "strop"
    mlflow.pyfunc.log_model(
        name="model", loader_module=__name__, data_path=str(bundle.folder), signature=_signature(bundle),
        pip_requirements=[f"{needed}=={bundle.environment.packages.get('strop', '0')}"],
    )  # fmt: skip


def _signature(bundle: Opened) -> Any:
    """Of tensors; a table has none, since frames, arrays and mappings of columns all go in."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = bundle.model.signature
    if any(tensor.columns or tensor.dtype == "str" for tensor in signature.inputs):
        return None
    sides = [
        Schema([
            TensorSpec(np.dtype(t.dtype), [size if isinstance(size, int) else -1 for size in t.shape], t.name)
            for t in tensors
        ])
        for tensors in (signature.inputs, signature.visible_outputs)
    ]  # fmt: skip
    return ModelSignature(*sides)


def _nest(candidate: Mapping[str, Any], experiment: str, parent: str) -> None:
    """A candidate as a run of its own: route and settings, figures, and what came of it."""
    client = mlflow.MlflowClient()
    run = client.create_run(experiment, tags={"mlflow.parentRunId": parent}, run_name=candidate["candidate"][:LONGEST])
    report, judged = candidate["report"], {one["verdict"] for one in candidate["report"]["judged"]}
    metrics = {"seconds": candidate["seconds"]}
    for name, figure in report["figures"].items():
        metrics |= _spread(name, figure["candidate"]) | _spread(f"{name}.ratio", figure["ratio"])
    verdict = next((word for word in WORST if word in judged), candidate["cause"])
    _batch(run.info.run_id, _route(candidate), metrics, _tags(candidate, verdict))
    client.set_terminated(run.info.run_id, "FINISHED" if candidate["cause"] in ("done", "refused") else "FAILED")


def _batch(run: str, params: Mapping[str, Any], metrics: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    known = {_key(name): value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    mlflow.MlflowClient().log_batch(
        run,
        [Metric(name, float(value), 0, 0) for name, value in known.items()],
        [Param(_key(name), str(value)[:LONGEST]) for name, value in params.items() if value is not None],
        [RunTag(name, value[:LONGEST]) for name, value in tags.items()],
    )


def _of_search(manifest: Mapping[str, Any]) -> dict[str, Any]:
    content = manifest["winner"] or manifest["closest"]
    goal = Goal.of_json(manifest["goal"])
    asked = {
        "model": manifest["original"]["source"], "format": manifest["original"]["format"], "goal": str(goal),
        "seed": manifest["seed"], **{f"target.{name}": value for name, value in manifest["target"].items()},
        **{f"samples.{name}": count for name, count in manifest["splits"].items()},
    }  # fmt: skip
    handed_over = _route(content) if content else {"route": "nothing"}
    return {**asked, **{f"handed_over.{name}": value for name, value in handed_over.items()}}


def _metrics_of_search(manifest: Mapping[str, Any]) -> dict[str, Any]:
    content = manifest["winner"] or manifest["closest"] or {"metrics": {}, "ratios": {}}
    found: dict[str, Any] = {"seconds": manifest["seconds"], "candidates": manifest["candidates"]}
    for name, metric in content["metrics"].items():
        found |= _spread(name, metric)
    for name, metric in manifest["original"]["metrics"].items():
        found |= _spread(f"original.{name}", metric)
    for name, ratio in content["ratios"].items():
        found |= _spread(f"{name}.ratio", ratio)
    return found


def _route(candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Route, runtime, and every setting, by the name of what it is one of."""
    steps = [(step["technique"], step["settings"]) for step in candidate["route"]]
    runtime = candidate["runtime"]
    named = [*steps, (runtime["name"], runtime["options"])]
    return {
        "route": " + ".join(name for name, _ in steps) or "the original, unchanged",
        "runtime": runtime["name"],
        **{f"{name}.{setting}": value for name, settings in named for setting, value in settings.items()},
    }


def _spread(name: str, interval: Mapping[str, Any]) -> dict[str, Any]:
    return {name: interval["value"], f"{name}.low": interval["low"], f"{name}.high": interval["high"]}


def _tags(what: Mapping[str, Any], verdict: str) -> dict[str, str]:
    given = {"strop.verdict": verdict, "strop.cause": what.get("cause", ""), "mlflow.note.content": what["reason"]}
    return {name: value for name, value in given.items() if value}


def _key(name: str) -> str:
    """A name in the letters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250]


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Wait for a server as long as the user says, or else a little."""
    added = [name for name in PATIENCE if name not in os.environ]
    os.environ.update({name: PATIENCE[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
