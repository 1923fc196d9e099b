"""A run read back from its store: parameters, scores and tags, and its files, verified."""

import gzip
import io
import json
import tempfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from harness.checks.findings import Finding, Verdict
from harness.errors import TrackingError, first_line
from harness.inference.corrections import drop_observed
from harness.tracking.choices import COMPARED_PARAMS, EARLIER_PARAMS
from harness.tracking.file_digests import FILES_LIST, digest_bytes
from harness.tracking.relocation import location_path
from harness.tracking.store_errors import translate_errors
from harness.tracking.tags import (
    ANALYSIS_TAG,
    DIGEST_TAG,
    FILES_TAG,
    INFERENCE_TAG,
    RELABELLINGS_TAG,
    VERSION_TAG,
)

FOLDS_TABLE, NULL_TABLE = "folds.csv", "null_distribution.csv"
SEARCHLIGHT = "searchlight"  # value of the tag
DEFAULT_SCORES = ("test_accuracy", "test_roc_auc")  # that tables show, where runs have them

# The same loader in C, where PyYAML has it: 0.3 ms instead of 2.3, which counts in a comparison of 1000 runs.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run of a store. Its files are read when they are needed.

    Attributes
    ----------
    uri : str
        Tracking URI of the store.
    artifact_uri : str
        Where its files are.
    status : str
        ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``.
    params : mapping of str to str
        Choices such as ``estimator``, counts such as ``n_voxels``, and the configuration.
    metrics : mapping of str to float
        The last value of every metric.
    """

    uri: str
    artifact_uri: str
    run_id: str
    name: str
    status: str
    experiment_id: str
    started: datetime
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def title(self) -> str:
        """The first characters of the identifier, and the name."""
        return f"{self.run_id[:8]} ({self.name})"

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and the packages."""
        return self._tags_below(VERSION_TAG)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the input files, by their role, such as ``bold``."""
        return self._tags_below(DIGEST_TAG)

    @property
    def is_searchlight(self) -> bool:
        """Whether the run is a searchlight, and not a decoding."""
        return is_searchlight(self.tags)

    @property
    def is_enumerated(self) -> bool:
        """Whether the permutation test computed all distinct relabellings."""
        return self.tags.get(INFERENCE_TAG) == "enumerated"

    @property
    def has_complete_test(self) -> bool:
        """Whether the run has a permutation test whose number of relabellings was fixed in advance."""
        return RELABELLINGS_TAG in self.tags

    def require_finished(self) -> None:
        """Raise TrackingError unless the run is FINISHED."""
        if self.status != "FINISHED":
            advice = "wait until it has finished" if self.status == "RUNNING" else "repeat it first"
            raise TrackingError(f"run {self.title} is {self.status} and has no results; {advice}")

    def read_file(self, name: str) -> bytes:
        """Return the content of one of the run's files.

        Raises
        ------
        TrackingError
            If the run has no such file, or it is not the one that the run wrote.
        """
        content = self._fetch(name)
        if content is None:
            self.require_finished()
            raise TrackingError(
                f"run {self.title} has no {name} in {self.artifact_uri}: it was written by another version "
                "of the harness, or the file was deleted; repeat the run with resume=false"
            )
        known = self.file_digests.get(name)
        if known is not None and digest_bytes(content) != known:
            raise self._edited(name)
        return content

    def has_file(self, name: str) -> bool:
        """Return whether the run lists a data file; of earlier versions, whether the file exists."""
        if FILES_TAG in self.tags:
            return name in self.file_digests
        return self._fetch(name) is not None

    def list_files(self) -> tuple[str, ...]:
        """Return the names of the data files that the run lists; of earlier versions, of all its files."""
        if FILES_TAG in self.tags:
            return tuple(self.file_digests)
        client = MlflowClient(tracking_uri=self.uri)
        with translate_errors(self.uri):
            return tuple(str(item.path) for item in client.list_artifacts(self.run_id) if not item.is_dir)

    def read_table(self, name: str) -> pd.DataFrame:
        """Return one of the run's CSV files; errors as in `read_file`."""
        content = self.read_file(name)
        try:
            return pd.read_csv(io.BytesIO(content))
        except (ValueError, pd.errors.ParserError) as error:
            raise self._damaged(name, error) from error

    def read_columns(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """Return one of the run's CSV files, which has rows and has these columns without empty cells.

        Raises
        ------
        TrackingError
            As in `read_file`, or if there are no rows, a column is missing or a cell of it is empty.
        """
        table = self.read_table(name)
        missing = [column for column in columns if column not in table]
        problem = f"no column {missing[0]}" if missing else "no rows" if table.empty else ""
        if not problem and any(table[column].hasnans for column in columns):
            problem = "empty cells"
        if problem:
            raise TrackingError(f"{name} of run {self.title} has {problem}; repeat the run with resume=false")
        return table

    def read_folds(self) -> pd.DataFrame:
        """Return the scores per fold in the order of the folds; errors as in `read_columns`."""
        folds = self.read_columns(FOLDS_TABLE, ("fold", "n_train", "n_test"))
        return folds.sort_values("fold", ignore_index=True)

    def read_null(self) -> pd.DataFrame:
        """Return the scores under relabelling, the true labelling first; errors as in `read_columns`."""
        return self.read_columns(NULL_TABLE, ())

    def read_null_scores(self, score: str) -> NDArray[np.float64]:
        """Return the null distribution of a score: see `harness.inference.corrections.drop_observed`."""
        if score not in (null := self.read_null()):
            raise TrackingError(f"{NULL_TABLE} of run {self.title} has no column {score}")
        return drop_observed(null[score].to_numpy(), self.is_enumerated)

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration; errors as in `read_file`."""
        content = self.read_file("config.yaml")
        try:
            config = yaml.load(content, Loader=YAML_LOADER)
        except yaml.YAMLError as error:
            raise self._damaged("config.yaml", error) from error
        if not isinstance(config, dict):
            raise self._damaged("config.yaml", ValueError("it holds no keys"))
        return config

    def read_findings(self) -> tuple[Finding, ...]:
        """Return the findings of the audit; empty for a run that was not audited."""
        if not self.has_file("audit.json"):
            return ()
        try:
            entries = json.loads(self.read_file("audit.json"))
            return tuple(Finding(**entry | {"verdict": Verdict(entry["verdict"])}) for entry in entries)
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged("audit.json", error) from error

    def read_leaks(self) -> list[Finding]:
        """Return those findings of the audit that are leaks; errors as in `read_file`."""
        return [finding for finding in self.read_findings() if finding.verdict == Verdict.leak]

    def read_image(self, name: str) -> nib.Nifti1Image:
        """Return one of the run's images; errors as in `read_file`."""
        try:
            return nib.Nifti1Image.from_bytes(gzip.decompress(self.read_file(name)))
        except (OSError, EOFError, zlib.error, ImageFileError) as error:
            raise self._damaged(name, error) from error

    @cached_property
    def file_digests(self) -> Mapping[str, str]:
        """SHA-256 of the data files by name, as the run wrote them; empty for a run of an earlier version.

        Raises TrackingError if the list was edited or deleted.
        """
        if FILES_TAG not in self.tags:
            return {}
        content = self._fetch(FILES_LIST)
        if content is None or digest_bytes(content) != self.tags[FILES_TAG]:
            raise self._edited(FILES_LIST)
        digests = json.loads(content)
        assert isinstance(digests, dict)
        return digests

    def _fetch(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""
        if self.artifact_uri.startswith("file:"):
            # MLflow's client copies a local file first: 3 ms instead of 0.05, for every table of a sweep.
            file = location_path(self.artifact_uri) / name
            try:
                return file.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise TrackingError(f"{file} cannot be read: {error}") from error
        client = MlflowClient(tracking_uri=self.uri)
        with translate_errors(self.uri), tempfile.TemporaryDirectory(prefix="harness-") as directory:
            try:
                return Path(client.download_artifacts(self.run_id, name, directory)).read_bytes()
            except (MlflowException, FileNotFoundError):
                if name in {item.path for item in client.list_artifacts(self.run_id)}:
                    raise
                return None

    def _tags_below(self, prefix: str) -> dict[str, str]:
        return {
            key.removeprefix(f"{prefix}."): value
            for key, value in self.tags.items()
            if key.startswith(f"{prefix}.")
        }

    def _edited(self, name: str) -> TrackingError:
        return TrackingError(
            f"{name} of run {self.title} is not the file that the run wrote: it was edited, damaged or "
            f"deleted in {self.artifact_uri}; restore it, or repeat the run with resume=false"
        )

    def _damaged(self, name: str, error: Exception) -> TrackingError:
        return TrackingError(
            f"{name} of run {self.title} cannot be read: {first_line(error)}; repeat the run with "
            "resume=false"
        )


def is_searchlight(tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags is a searchlight."""
    return tags.get(ANALYSIS_TAG) == SEARCHLIGHT


def read_stored_run(run: Run, uri: str) -> StoredRun:
    """Return a run of MLflow's client as a `StoredRun`."""
    return StoredRun(
        uri=uri,
        artifact_uri=str(run.info.artifact_uri),
        run_id=str(run.info.run_id),
        name=str(run.info.run_name),
        status=str(run.info.status),
        experiment_id=str(run.info.experiment_id),
        started=datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        params=EARLIER_PARAMS | run.data.params,
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )


def read_stored_runs(runs: Sequence[Run], uri: str) -> list[StoredRun]:
    """Return runs of MLflow's client as `StoredRun` records, in their order."""
    return [read_stored_run(run, uri) for run in runs]


def choose_newest(runs: Sequence[StoredRun], ignored: Collection[str] = ("inference",)) -> list[StoredRun]:
    """Return the newest run of every configuration, in the order of `runs`.

    Parameters
    ----------
    ignored : collection of str
        Parameters in which runs of one configuration may differ. A permutation test does not change the
        scores that it tests, so that runs with and without one are repetitions.
    """
    names = [name for name in COMPARED_PARAMS if name not in ignored]
    newest: dict[tuple[str, ...], StoredRun] = {}
    for run in sorted(runs, key=lambda run: run.started):
        newest[tuple(run.params.get(name, "") for name in names)] = run
    chosen = {run.run_id for run in newest.values()}
    return [run for run in runs if run.run_id in chosen]
