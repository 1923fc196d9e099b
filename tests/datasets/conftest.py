"""Fixtures that the tests of several data sets share."""

import pytest

from harness.errors import DataError


@pytest.fixture
def refused():
    """Return a function that expects one message from `load`, with all `parts`, and returns it."""

    def check(dataset, *parts, subject=1, kind=DataError):
        with pytest.raises(kind) as error:
            dataset.load(subject)
        message = str(error.value)
        assert "\n" not in message
        for part in parts:
            assert str(part) in message
        return message

    return check
