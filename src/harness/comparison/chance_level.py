"""Scores of subjects against .5, where that is the chance level: test scores of two classes and ``logo``."""

from collections.abc import Sequence

import numpy as np

from harness.errors import HarnessError
from harness.inference.paired_tests import SignFlip, sign_flip
from harness.tracking.stored_run import StoredRun

CHANCE = 0.5  # of two classes
LEAVE_ONE_RUN_OUT = "LeaveOneGroupOut"


def compare_with_half(
    runs: Sequence[StoredRun], score: str, values: np.ndarray, refusal: str
) -> tuple[SignFlip | None, str]:
    """Test scores against .5, or return None and why that is not their mean without information.

    Parameters
    ----------
    refusal : str
        Of `refuse_half`.
    """
    why = refusal
    if not score.startswith("test_"):
        why = "a score selected on the fold that is scored exceeds it without any information"
    elif not why and score == "test_accuracy":
        why = _refuse_unequal_classes(runs)
    if why:
        title = score.replace("_", " ")
        return None, f"{title}: no test against {CHANCE:.1f}: {why}"
    return sign_flip(values - CHANCE), ""


def refuse_half(runs: Sequence[StoredRun]) -> str:
    """Return why no test score of these runs has the mean .5 without information; empty if it may."""
    try:
        leaky = [run.params.get("subject", "") for run in runs if run.read_leaks()]
        if leaky:
            return f"the audit finds a leak in {'subjects' if leaky[1:] else 'subject'} {', '.join(leaky)}"
        config = runs[0].read_config()
        scheme = str(config["cv"]["_target_"])
        n_classes = len(config["contrast"]["conditions"])
    except HarnessError as error:
        return str(error)
    except (KeyError, TypeError):
        return f"config.yaml of run {runs[0].title} does not name the scheme and the classes"
    if not scheme.endswith(f".{LEAVE_ONE_RUN_OUT}"):
        name = runs[0].params.get("cv", scheme)
        return f"cv={name} does not hold out whole scanner runs one by one, and its scores are biased"
    if n_classes != 2:
        return f"it is the chance level of two classes, and there are {n_classes}"
    return ""


def _refuse_unequal_classes(runs: Sequence[StoredRun]) -> str:
    """Return which subject has more volumes of one class; empty if none."""
    for run in runs:
        try:
            classes = run.read_table("predictions.csv")["class"]
        except HarnessError as error:
            return str(error)
        except KeyError:
            return f"predictions.csv of run {run.title} has no column class"
        if np.ptp(classes.value_counts().to_numpy()):
            return (
                f"subject {run.params.get('subject', '')} has unequal numbers of volumes of the classes, and "
                "the larger class is predicted more often; balanced_accuracy has that chance level"
            )
    return ""
