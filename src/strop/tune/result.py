"""Result: what a search over parameters found, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidPlan
from ..goal import Goal
from ..judge import Judged
from ..notebook import Figures, boxed, figures, frame
from ..report import drawn, tuning_figures, tuning_page
from ..rundir import atomic
from ..stats import Interval
from ..units import counted, duration, share, spread
from .saving import check_out, write
from .trials import Trial

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Figure:
    """A metric of the original and of what was chosen."""

    original: Interval
    candidate: Interval
    ratio: Interval
    unit: str

    def to_json(self) -> dict[str, Any]:
        sides = {name: vars(getattr(self, name)) for name in ("original", "candidate", "ratio")}
        return {**sides, "unit": self.unit}


@dataclass(frozen=True)
class Tuned:
    """The parameters that were chosen, and the proof.

    Attributes:
        verdict: `met` where every limit is, `infeasible` where one is broken, else `inconclusive`.
        params: What to set on the estimator as given; empty where nothing was better than that.
        estimator: Fitted with them; None of a function. It is the one that was measured, where samples were held out:
            fitted on the others. Else it is fitted on all samples. Of a PyTorch model, its `module` is what was
            trained.
        goal: As it was searched by.
        figures: By metric, of the estimator as given and of the chosen one.
        judged_on: The samples behind the figures, for a person.
        limits: What was found of each.
        ties: Parameters of other candidates that the folds can't tell from the chosen ones (one-sided corrected
            resampled t test at 5 %, Nadeau & Bengio 2003); those that were dropped on the way are none.
        trials: All candidates, the first being the estimator as given.
        importance: Of each parameter for being among the best (PED-ANOVA, Watanabe et al. 2023), summing to 1; one that
            several grids draw from different ranges goes by several names, as `C[0]`.
        ended: Why the search ended.
        seconds: That it took.
        study: Optuna's, for its plots: the same trials, in their order, with the parameters' own values.
        how: What the search was asked, as plain data, for whoever wants to do it again.
    """

    verdict: str
    params: Mapping[str, Any]
    estimator: Any
    goal: Goal
    figures: Mapping[str, Figure]
    judged_on: str
    limits: tuple[Judged, ...]
    ties: tuple[Mapping[str, Any], ...]
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    ended: str
    seconds: float
    study: optuna.Study
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> int:
        """The place of what was chosen among the trials."""
        places = range(len(self.trials))
        return next((n for n in places if self.trials[n].state == "done" and self.trials[n].params == self.params), 0)

    @property
    def estimate(self) -> Interval:
        """The objective, of what was chosen, with two one-sided bounds at 95 %."""
        return self.figures[self.goal.objective].candidate

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain data a candidate."""
        return [trial.row(number) for number, trial in enumerate(self.trials)]

    def to_frame(self) -> Any:
        """The same as a frame of pandas; without pandas, as a table of pyarrow."""
        return frame(self.rows())

    def plot(self) -> Figures:
        """Importance, history, slices and contours, as the report draws them, for a notebook to show.

        Raises:
            MissingDependency: Plotly is not installed.
        """
        return figures("strop tune", tuning_figures(**self.shown()))

    def _repr_html_(self) -> str:
        return boxed(f"<pre>{escape(str(self))}</pre>")

    def save(self, path: str | Path) -> tuple[str, ...]:
        """Write the chosen estimator, fitted, as a `.skops` file, which is safe to look into.

        Returns:
            The types in it that skops does not trust by itself: `skops.io.load(path, trusted=[...])` has to name them.

        Raises:
            InvalidPlan: There is no estimator, of a function; the place is none; or skops can't write it.
        """
        if self.estimator is None:
            raise InvalidPlan("A function leaves no estimator to save. Train it once more with the parameters.")
        check_out(Path(path), self.estimator)
        return write(Path(path), self.estimator)

    def report(self, path: str | Path) -> Path:
        """Write a page that opens offline: the verdict, what was tried, plots, and how to do it again."""
        path = Path(path)
        with atomic(path) as temporary:
            temporary.write_text(tuning_page(**self.shown()), encoding="utf-8")
        return path

    def shown(self) -> dict[str, Any]:
        """All that its page is made of, as plain data: `found` and `figures`."""
        found = self.to_json()
        return {"found": found, "figures": drawn(found, self.study)}

    def to_json(self) -> dict[str, Any]:
        """Plain data; parameters that are none are spelled out.

        `{"verdict", "params", "goal", "metrics": {NAME: {"original", "candidate", "ratio", "unit"}}, "judged_on",
        "limits": [{"limit", "verdict", "value", "low", "high"}], "ties": [PARAMS], "chosen": N, "trials": [ROW],
        "importance": {NAME: SHARE}, "ended", "seconds", "how"}`: each figure is `{"value", "low", "high"}`, `chosen`
        the place of what was chosen among the trials, and a row `{"trial", "state", "why", "breaks", METRIC...,
        "folds", "seconds", "param_NAME"...}`, metrics being means over folds.
        """
        return {
            "verdict": self.verdict,
            "params": plain_params(self.params),
            "goal": self.goal.to_json(),
            "metrics": {name: figure.to_json() for name, figure in self.figures.items()},
            "judged_on": self.judged_on,
            "limits": [judged.to_json() for judged in self.limits],
            "ties": [plain_params(params) for params in self.ties],
            "chosen": self.chosen,
            "trials": self.rows(),
            "importance": dict(self.importance),
            "ended": self.ended,
            "seconds": self.seconds,
            "how": dict(self.how),
        }

    def __str__(self) -> str:
        from .race import spelled

        lines = [f"{self.verdict}: {spelled(self.params)}"]
        for name, figure in self.figures.items():
            compared = self.params and self.estimator is not None  # what a function trains has no original
            beside = f" {share(figure.ratio)} of the original's" if compared else ""
            lines.append(f"  {name} {spread(figure.candidate, figure.unit)}{beside}")
        lines += [f"  {judged.verdict:<12} {judged.limit}" for judged in self.limits]
        lines.append(f"  judged on {self.judged_on}")
        if self.ties:
            shown = "; ".join(map(spelled, self.ties[:3])) + (" ..." if len(self.ties) > 3 else "")
            lines.append(f"  {counted(len(self.ties), 'candidate')} can't be told from it by the folds: {shown}")
        if self.importance:
            lines.append("  importance: " + ", ".join(f"{name} {by:.2f}" for name, by in self.importance.items()))
        failed = sum(trial.state == "failed" for trial in self.trials)
        lost = f", of which {failed} failed" if failed else ""
        lines.append(
            f"  {counted(len(self.trials), 'candidate')} in {duration(self.seconds)}{lost}; ended because {self.ended}"
        )
        return "\n".join(lines)


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain data; what is none is spelled out."""
    row = Trial(params).row(0)
    return {name.removeprefix("param_"): value for name, value in row.items() if name.startswith("param_")}
