"""How far can a forest be shrunk with few rows to train with?

    python benchmarks/few_rows.py [--seeds 2]    # 15 minutes

Shrinks the census forest (`census_forest.py`: 500 trees) by several amounts, by techniques that train with rows and by
those that don't, and tells how much AUROC on test data is lost, against the number of rows there are. Writes
`few_rows.md`; `caution.py` holds what follows from it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from census_forest import original, samples
from sklearn.metrics import roc_auc_score

from strop import formats
from strop.data import Data
from strop.errors import NotApplicable
from strop.formats.forest import ForestFormat
from strop.learning import Training
from strop.model import Model
from strop.target import Target, cpu_name
from strop.technique import Context, Technique, apply
from strop.techniques.distill_forest import DistillForest
from strop.techniques.drop_features import DropFeatures
from strop.techniques.prune_leaves import PruneLeaves
from strop.techniques.retune import Retune
from strop.techniques.to_forest import ToForest
from strop.techniques.truncate_rounds import TruncateRounds

HERE = Path(__file__).parent
TECHNIQUES: tuple[type[Technique], ...] = (Retune, DistillForest, DropFeatures, PruneLeaves, TruncateRounds)
AMOUNTS = (0.5, 0.9)
ROWS = (100, 300, 1000, 3000, 10_000, 30_000)
TESTED = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(parser.parse_args().seeds)
    start = time.monotonic()
    train, test = samples("train"), {name: array[:TESTED] for name, array in samples("test").items()}
    given = formats.open(original())
    with tempfile.TemporaryDirectory() as scratch:
        forest = made(ToForest(), given, given, None, 0, Path(scratch))
        whole = auroc(forest, test)
        rows = ["| technique | rows | " + " | ".join(f"{amount:.0%} left out" for amount in AMOUNTS) + " |"]
        rows.append("|---|---|" + "---|" * len(AMOUNTS))
        for technique in TECHNIQUES:
            for count in ROWS if technique is not TruncateRounds else (0,):
                cells = []
                for amount in AMOUNTS:
                    lost = losses(technique, amount, count, forest, given, train, test, whole, seeds)
                    cells.append(f"{statistics.mean(lost):.4f} ({min(lost):.4f} to {max(lost):.4f})" if lost else "-")
                rows.append(f"| {technique.label()} | {f'{count:,}' if count else 'none'} | {' | '.join(cells)} |")
                print(rows[-1], flush=True)
    (HERE / "few_rows.md").write_text("\n".join([
        "# Shrinking a forest with few rows", "",
        f"Written by `benchmarks/few_rows.py` in {(time.monotonic() - start) / 60:.0f} minutes; {cpu_name()}. KDD "
        f"census, LightGBM, 500 trees that were trained on 199,523 rows; AUROC {whole:.4f} on {TESTED:,} test rows. "
        f"AUROC lost by a technique that is given so many rows of the train data, {len(seeds)} seeds each: mean (least "
        "to greatest). A dash: refused.", "", *rows, "",
    ]))  # fmt: skip


def losses(
    technique: type[Technique], amount: float, count: int, forest: Model, given: Model,
    train: dict[str, np.ndarray], test: dict[str, np.ndarray], whole: float, seeds: Sequence[int],
) -> list[float]:  # fmt: skip
    """The AUROC lost, by seed."""
    found = []
    for seed in seeds if count else (0,):
        chosen = np.sort(np.random.default_rng([seed, count]).permutation(len(train["x"]))[:count])
        (tensor,) = forest.signature.inputs
        few = Data({tensor.name: train["x"][chosen]}, train["labels"][chosen]) if count else None
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found.append(
                    whole - auroc(made(technique(amount=amount), forest, given, few, seed, Path(scratch)), test)
                )
            except NotApplicable as error:
                print(f"  {technique.label()}, {count} rows, {amount:.0%}: {error}", flush=True)
    return found


def made(step: Technique, model: Model, given: Model, few: Data | None, seed: int, folder: Path) -> Model:
    return apply(step, model, Context(few, given, Target(threads=1), seed, folder, train=few, training=Training()))


def auroc(forest: Model, test: dict[str, np.ndarray]) -> float:
    scores = ForestFormat().forest(forest).scores(test["x"])
    return float(roc_auc_score(test["labels"], scores.reshape(TESTED, -1)[:, -1]))


if __name__ == "__main__":
    main()
