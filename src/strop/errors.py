"""Every error strop raises on purpose.

    StropError
    ├─ InvalidGoal(ValueError)
    ├─ InvalidData(ValueError)
    ├─ InvalidPlan(ValueError)
    ├─ NotMeasurable
    ├─ UnsupportedModel(TypeError)
    ├─ UntrustedModel
    ├─ MissingDependency(ImportError)
    ├─ TechniqueError
    │  ├─ NotApplicable
    │  └─ ContractBroken
    ├─ RunFailed
    ├─ BundleError
    └─ Infeasible

A message states the rule, the value seen and the next step.
"""

from __future__ import annotations


class StropError(Exception):
    """The root of all errors that strop raises on purpose."""


class InvalidGoal(StropError, ValueError):
    """A goal that can't be read, contradicts itself, or names an unknown metric."""


class InvalidData(StropError, ValueError):
    """Data that don't fit the model, the metric, or themselves."""


class InvalidPlan(StropError, ValueError):
    """A plan file or an option that can't be used as given."""


class NotMeasurable(StropError):
    """A metric that this machine can't tell: reported as such, and refused before a search where a goal asks for it."""


class UnsupportedModel(StropError, TypeError):
    """A model that strop can't read, with what is wrong with it."""


class UntrustedModel(StropError):
    """A model file that could run code, opened without explicit trust."""


class MissingDependency(StropError, ImportError):
    """A package that is not installed; the message names the extra that brings it."""


class TechniqueError(StropError):
    """A technique failed on a model."""


class NotApplicable(TechniqueError):
    """A technique or runtime that does not fit the model or the machine; the candidate is skipped and recorded."""


class ContractBroken(TechniqueError):
    """A technique or runtime broke a promise it declares: a bug in it, never a bad number."""


class RunFailed(StropError):
    """A model could not be run, or a run directory can't be used."""


class BundleError(StropError):
    """A bundle that is incomplete, altered, or can't be written."""


class Infeasible(StropError):
    """No candidate keeps the limits.

    Attributes:
        closest: Description of the candidate that came closest, or None.
        binding: The limits that it breaks, as text.
    """

    def __init__(self, message: str, closest: object = None, binding: tuple[str, ...] = ()):
        super().__init__(message)
        self.closest = closest
        self.binding = binding
