"""Whether a repeated run has the numbers of the stored one, and what changed since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.comparison.differences import Difference, list_differences
from harness.comparison.numbers import (
    NumberChange,
    Results,
    compare_results,
    is_compared,
    read_results,
    select_metrics,
)
from harness.comparison.origins import Origin, Prepare, flatten, list_held_out, parse_environment, read_origin
from harness.tracking.provenance import describe_environment, digest_sources, git_commit, package_versions
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.run_content import RunContent
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import CODE_TAG, DIGEST_TAG, RELABELLINGS_TAG


@dataclass(frozen=True, eq=False)
class Repetition:
    """A run that was computed again: its numbers, and what they come from."""

    results: Results
    origin: Origin


@dataclass(frozen=True, eq=False)
class Replay:
    """Whether a repetition has the numbers of the stored run.

    Attributes
    ----------
    changes : tuple of NumberChange
        In what the numbers differ; empty if every number is identical.
    differences : tuple of Difference
        What changed since the run: data, versions, code, machine.
    n_files, n_metrics : int
        What was compared.
    notes : tuple of str
        What was not compared, and how the record was completed.
    """

    stored: StoredRun
    changes: tuple[NumberChange, ...]
    differences: tuple[Difference, ...]
    n_files: int
    n_metrics: int
    notes: tuple[str, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether every number is the same to the last bit."""
        return not self.changes


def describe_repetition(
    content: RunContent,
    directory: Path,
    settings: Mapping[str, Any],
    choices: Mapping[str, str],
    foreign_code: Mapping[str, str],
) -> Repetition:
    """Return the numbers of a run that was computed again, and what they come from.

    Parameters
    ----------
    directory : Path
        Where its files were written.
    settings : mapping of str to object
        The normalised configuration.
    foreign_code : mapping of str to str
        Digests of the code of a user's own packages, by tag.
    """
    files = {path.name: path.read_bytes() for path in directory.iterdir() if is_compared(path.name)}
    metrics = {metric.key: metric.value for metric in content.metrics}
    packages, machine = parse_environment(describe_environment())
    commit = git_commit()
    code = {"harness": digest_sources()} | ({} if commit is None else {"commit": commit})
    code |= {key.removeprefix(f"{CODE_TAG}."): digest for key, digest in foreign_code.items()}
    predictions = directory / "predictions.csv"
    digests = f"{DIGEST_TAG}."
    origin = Origin(
        choices={name: choices[name] for name in COMPARED_PARAMS if name in choices},
        settings=flatten(settings),
        digests={
            key.removeprefix(digests): value for key, value in content.tags.items() if key.startswith(digests)
        },
        versions=packages | package_versions(),
        code=code,
        machine=machine,
        relabellings=content.tags.get(RELABELLINGS_TAG, ""),
        counts=content.params,
        folds=list_held_out(pd.read_csv(predictions)) if predictions.is_file() else {},
    )
    return Repetition(Results(files, select_metrics(metrics)), origin)


def compare_replay(
    stored: StoredRun,
    repetition: Repetition,
    *,
    prepare: Prepare,
    notes: Sequence[str] = (),
) -> Replay:
    """Compare a stored run with its repetition.

    Parameters
    ----------
    prepare : callable
        From the stored configuration to the form of `Repetition.origin`.
    notes : sequence of str
        How the record was completed.

    Raises
    ------
    TrackingError
        If the list of the stored files cannot be used.
    """
    before = read_results(stored)
    after, added = _drop_additions(before, repetition.results, stored)
    origin = read_origin(stored, prepare)
    # Files of results are among the changes already.
    unused = [text for text in origin.missing if text not in before.unreadable.values()]
    return Replay(
        stored=stored,
        changes=tuple(compare_results(before, after)),
        differences=tuple(list_differences(origin, repetition.origin)),
        n_files=len({*before.files, *before.unreadable}),
        n_metrics=len(before.metrics),
        notes=(*notes, *added, *unused),
    )


def _drop_additions(before: Results, after: Results, stored: StoredRun) -> tuple[Results, list[str]]:
    """Leave out files and metrics that the version of the stored run did not write."""
    if stored.tags.get(CODE_TAG) == digest_sources():
        return after, []
    known = {*before.files, *before.unreadable}
    added = [name for name in after.files if name not in known]
    added += [name for name in after.metrics if name not in before.metrics]
    if not added:
        return after, []
    kept = Results(
        {name: content for name, content in after.files.items() if name in known},
        {name: value for name, value in after.metrics.items() if name in before.metrics},
    )
    return kept, [f"not compared, because the version of the run did not store it: {', '.join(added)}"]
