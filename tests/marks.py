"""Marks for long parameter lists."""

import pytest


def first(n_quick, values):
    """Return parameters of which the first `n_quick` run by default; the others are slow."""
    values = [value if hasattr(value, "marks") else _wrap(value) for value in values]
    slow = [
        pytest.param(*value.values, id=value.id, marks=[*value.marks, pytest.mark.slow]) for value in values
    ]
    return values[:n_quick] + slow[n_quick:]


def _wrap(value):
    return pytest.param(*value) if isinstance(value, tuple) else pytest.param(value)
