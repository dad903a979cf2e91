"""A fraud-like model that must answer in milliseconds: LightGBM, XGBoost and CatBoost, each through strop.

    pip install '.[trees]'                      # in a checkout
    python examples/fraud/run.py                # --only lightgbm, --budget 5m

Fetches the data (`census.py`), trains an original with each library, and has strop make each of them smaller and
faster, within limits that must all be proven on rows that neither training nor the search has seen:

- p99 latency of one row under 10 ms, and under half of the original's;
- average precision lower by 0.005 at the most;
- AUROC of every value of sex and race at 98 % of the original's or more, where it has 300 positives; values with fewer
  are reported as undecidable.

Writes `fraud.md` beside this file, with a bundle for each model under `.cache`; the models that `--only` leaves out
keep the figures of their last run.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import census
import numpy as np

import strop
from strop import details
from strop.planfile import seconds
from strop.target import cpu_name
from strop.terminal import Reporter, console
from strop.units import share, spread, stored

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
LIMITS = (
    "latency.p99 < 10 ms",
    "latency.p99 <= 50% of original",
    "drop(average_precision) <= 0.005",
    "worst_slice(auroc, 300) >= 98% of original",
)
SHOWN = ("latency.p50", "latency.p99", "size", "average_precision", "auroc")


def lightgbm(x: np.ndarray, y: np.ndarray, file: Path) -> None:
    import lightgbm as library

    settings = {"objective": "binary", "num_leaves": 63, "learning_rate": 0.05, "seed": 0, "verbose": -1}
    rows = library.Dataset(x, y, feature_name=[*census.FEATURES], categorical_feature=[*census.CATEGORIES])
    library.train(settings, rows, 300).save_model(file)


def xgboost(x: np.ndarray, y: np.ndarray, file: Path) -> None:
    import xgboost as library

    settings = {"objective": "binary:logistic", "max_depth": 7, "eta": 0.1, "tree_method": "hist", "seed": 0}
    rows = library.DMatrix(x, y, feature_names=[*census.FEATURES])
    library.train(settings, rows, 300).save_model(file)


def catboost(x: np.ndarray, y: np.ndarray, file: Path) -> None:
    import catboost as library

    model = library.CatBoostClassifier(iterations=500, depth=6, learning_rate=0.1, random_seed=0, verbose=False,
                                       allow_writing_files=False)  # fmt: skip
    model.fit(library.Pool(x, y, feature_names=[*census.FEATURES])).save_model(str(file))


ORIGINALS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray, Path], None]]] = {
    "lightgbm": ("lightgbm.txt", lightgbm),
    "xgboost": ("xgboost.ubj", xgboost),
    "catboost": ("catboost.cbm", catboost),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ORIGINALS, default=[*ORIGINALS])
    parser.add_argument("--budget", default="5m")
    options = parser.parse_args()
    train, data = census.tables(CACHE)
    for name in options.only:
        file, make = ORIGINALS[name]
        if not (CACHE / file).exists():
            print(f"training {name} on {train.name}", flush=True)
            make(*census.matrix(train), CACHE / file)
        bundle = CACHE / f"{name}-bundle"
        shutil.rmtree(bundle, ignore_errors=True)  # of an earlier run
        budget = seconds(options.budget)
        with Reporter(console(), budget) as reporter:
            result = strop.optimize(
                CACHE / file, data, "minimize latency.p50; " + "; ".join(LIMITS), train=train, label="label",
                slices=["by_sex", "by_race"], metric=["average_precision", "auroc"], target=strop.Target(threads=1),
                budget=strop.Budget(budget), listener=reporter,
            )  # fmt: skip
        result.save(bundle)
    bundles = {name: CACHE / f"{name}-bundle" for name in ORIGINALS}
    found = {name: strop.Bundle.load(bundle).manifest for name, bundle in bundles.items() if bundle.exists()}
    (HERE / "fraud.md").write_text("\n".join(page(found)) + "\n")


def page(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "# A fraud-like model, three times", "",
        f"Written by `examples/fraud/run.py`; {cpu_name()}, one thread, one row a call. Figures are of the confirm "
        "split, with their bounds; ratios are to the original in its own library's fastest call.",
    ]  # fmt: skip
    for name, manifest in found.items():
        content = manifest["winner"] or manifest["closest"]
        lines += ["", f"## {name}: {manifest['verdict']}", "", f"{manifest['reason']}", ""]
        lines += ["| | original | handed over | ratio |", "| --- | --- | --- | --- |"]
        for metric in SHOWN:
            sides = [manifest["original"]["metrics"][metric], content["metrics"][metric]]
            cells = [spread(stored(side), side["unit"]) for side in sides]
            lines.append(f"| {metric} | {' | '.join(cells)} | {share(stored(content['ratios'][metric]))} |")
        lines += ["", *(f"- {limit['verdict']}: `{limit['limit']}`" for limit in manifest["limits"])]
        lines += [f"- {note}" for note in manifest["notes"]]
        lines += [f"- {line}" for line in details.without(manifest["without"], manifest["goal"]["objective"])]
    return lines


if __name__ == "__main__":
    main()
