"""Allowed values of the options of inference; without other imports, because every start reads them."""

from enum import StrEnum


class InferenceKind(StrEnum):
    """How a run tests its scores."""

    none = "none"
    permutation = "permutation"


class Relabel(StrEnum):
    """How blocks are relabelled; see `harness.inference.settings.PermutationSettings`."""

    blocks = "blocks"
    order_preserving = "order_preserving"


# What is tested where a class has several conditions. In a class statement a member `partition` would clash
# with the method of str.
NullHypothesis = StrEnum("NullHypothesis", ["conditions_alike", "partition"])
