"""Allowed values of the options of a searchlight."""

from enum import StrEnum


class Statistic(StrEnum):
    """What a test of a map relabels; see `harness.searchlight.settings.Searchlight`."""

    roc_auc = "roc_auc"
    decision_value = "decision_value"
    accuracy = "accuracy"
    balanced_accuracy = "balanced_accuracy"


class Correction(StrEnum):
    """Family-wise corrections of a map; see `harness.searchlight.settings.Searchlight`."""

    maximum = "maximum"
    tfce = "tfce"
    cluster_size = "cluster_size"
