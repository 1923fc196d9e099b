"""Allowed values of the options of decoding.

The schema reads them at start-up, so this module imports nothing else.
"""

from enum import StrEnum


class Engine(StrEnum):
    """Whose Decoder fits and predicts."""

    harness = "harness"
    nilearn = "nilearn"


class InnerFolds(StrEnum):
    """Folds inside a training set, which choose parameters; see `harness.decoding.evaluation.split_inner`."""

    stratified = "stratified"
    runs = "runs"


class Scorer(StrEnum):
    """Scorers that are defined in the same way for two classes and for more."""

    accuracy = "accuracy"
    balanced_accuracy = "balanced_accuracy"
    roc_auc = "roc_auc"
