"""Result: what a search over parameters found, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..goal import Goal
from ..judge import Judged
from ..stats import Interval
from ..units import counted, duration, share, spread
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
        importance: Of each parameter for being among the best (PED-ANOVA, Watanabe et al. 2023), summing to 1; by the
            name that the study has for it.
        ended: Why the search ended.
        seconds: That it took.
        study: Optuna's, for its plots.
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

    @property
    def estimate(self) -> Interval:
        """The objective, of what was chosen, with two one-sided bounds at 95 %."""
        return self.figures[self.goal.objective].candidate

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain data a candidate, for a table: `pandas.DataFrame(result.rows())`."""
        return [trial.row(number) for number, trial in enumerate(self.trials)]

    def to_json(self) -> dict[str, Any]:
        """Plain data; parameters that are none are spelled out."""
        return {
            "verdict": self.verdict,
            "params": _plain(self.params),
            "goal": self.goal.to_json(),
            "metrics": {name: figure.to_json() for name, figure in self.figures.items()},
            "judged_on": self.judged_on,
            "limits": [judged.to_json() for judged in self.limits],
            "ties": [_plain(params) for params in self.ties],
            "trials": self.rows(),
            "importance": dict(self.importance),
            "ended": self.ended,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        from .race import spelled

        lines = [f"{self.verdict}: {spelled(self.params)}"]
        for name, figure in self.figures.items():
            beside = f" {share(figure.ratio)} of the original's" if self.params else ""
            lines.append(f"  {name} {spread(figure.candidate, figure.unit)}{beside}")
        lines += [f"  {judged.verdict:<12} {judged.limit}" for judged in self.limits]
        lines.append(f"  judged on {self.judged_on}")
        if self.ties:
            shown = "; ".join(map(spelled, self.ties[:3])) + (" ..." if len(self.ties) > 3 else "")
            lines.append(f"  {counted(len(self.ties), 'candidate')} can't be told from it by the folds: {shown}")
        if self.importance:
            lines.append("  importance: " + ", ".join(f"{name} {by:.2f}" for name, by in self.importance.items()))
        lines.append(
            f"  {counted(len(self.trials), 'candidate')} in {duration(self.seconds)}; ended because {self.ended}"
        )
        return "\n".join(lines)


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    row = Trial(params).row(0)
    return {name.removeprefix("param_"): value for name, value in row.items() if name.startswith("param_")}
