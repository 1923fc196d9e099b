"""Spaces of images: which of them the subjects of a study share.

Names are the labels of BIDS's entity ``space`` [1]_, which for templates are those of TemplateFlow.

References
----------
.. [1] https://bids-specification.readthedocs.io/en/stable/appendices/coordinate-systems.html
"""

import re

from harness.errors import UsageError

# Of one subject: fMRIPrep's names, and those of BIDS's coordinate systems; compared in lower case.
OWN_SPACES = frozenset(
    {
        "anat",
        "anatomical",
        "bold",
        "boldref",
        "dwi",
        "fsnative",
        "func",
        "individual",
        "native",
        "orig",
        "run",
        "sbref",
        "scanner",
        "subject",
        "t1w",
        "t2w",
    }
)
EXAMPLE = "MNI152NLin2009cAsym"


def find_common_space(label: str | None, cohort: str | None = None) -> str | None:
    """Return the name of a space that subjects share, None if every subject has a space of its own.

    Parameters
    ----------
    label : str, optional
        Of the entity ``space``; None for the scanner's own grid.
    cohort : str, optional
        Of the entity ``cohort``: a template of one age group is another space than that of the next.
    """
    if label is None or label.lower() in OWN_SPACES:
        return None
    return label if cohort is None else f"{label}:cohort-{cohort}"


def check_space(key: str, space: str | None) -> None:
    """Raise UsageError unless a text can be the name of a space that subjects share.

    Parameters
    ----------
    key : str
        What the message names, such as ``dataset.space``.
    """
    if space is None:
        return
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9:_+.-]*", space):
        raise UsageError(
            f"{key}={space!r} cannot be used; expected the name of a space that all subjects share, of "
            f"letters and digits, such as {EXAMPLE}, or null for the subjects' own"
        )
    if find_common_space(space) is None:
        raise UsageError(
            f"{key}={space} is the space of one subject; expected that of a template that all subjects were "
            f"normalised to, such as {EXAMPLE}, or null for the subjects' own"
        )
