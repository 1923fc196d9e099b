"""What a run computes from its specification, before anything is stored; a replay computes the same.

What computes is imported inside the functions, so that ``--help`` and completion answer at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.app.run_spec import RunSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.decoding.evaluation import Progress
    from harness.samples.samples import RecordedSamples, Sources
    from harness.tracking.run_content import RunContent
    from harness.tracking.run_writer import TrackedRun


class RunData:
    """The data of a run, each part read once; `seconds` and `warnings` grow as they are read.

    Parameters
    ----------
    cached : bool, optional
        Whether masked volumes are read from the cache; by default as the specification says.
    """

    def __init__(self, spec: RunSpec, cached: bool | None = None) -> None:
        from harness.samples.cache import SampleCache

        self.spec = spec
        cached = spec.config["cache"] if cached is None else cached
        self.cache = SampleCache(enabled=None if cached else False)
        self.seconds: dict[str, float] = {}
        self.warnings: tuple[str, ...] = ()

    @cached_property
    def sources(self) -> "Sources":
        """The recording, its mask and its confounds; the image is not yet read."""
        from harness.samples.samples import open_sources
        from harness.searchlight.sphere_samples import open_sphere_sources

        question, searchlight = self.spec.question, self.spec.searchlight
        with self._reading():
            recording = self.spec.dataset.load(self.spec.subject)
            if searchlight is not None:
                return open_sphere_sources(recording, question, searchlight)
            return open_sources(recording, question.roi, question.signal)

    @cached_property
    def samples(self) -> "RecordedSamples":
        """The samples that are decoded: of a searchlight, those of all voxels that spheres may take."""
        from harness.decoding.decode import read_question_samples
        from harness.searchlight.sphere_samples import read_sphere_samples

        sources, searchlight = self.sources, self.spec.searchlight
        with self._reading():
            if searchlight is not None:
                return read_sphere_samples(sources, self.spec.question, searchlight, self.cache)
            return read_question_samples(sources, self.spec.question, self.cache)

    @cached_property
    def centres(self) -> "NDArray[np.bool_]":
        """The centres of the spheres of a searchlight, (x, y, z)."""
        from harness.searchlight.sphere_samples import find_centres

        samples = self.samples
        with self._reading():
            return find_centres(samples)

    def fingerprint(self) -> str:
        """Fingerprint the run; the image is read unless the cache knows its digest."""
        from harness.app.allowed_targets import list_classes
        from harness.app.normalisation import normalise
        from harness.tracking.fingerprint import fingerprint_run

        config = {key: value for key, value in self.spec.config.items() if key != "dataset"}
        digest = self.cache.find_digest(self.sources.recording.bold) or self.samples.image_digest
        return fingerprint_run(normalise(config), self.sources, digest, list_classes(config))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        from harness.decoding.decode import collect_warnings, count_messages, timed

        with timed(self.seconds, "data"), collect_warnings() as caught:
            yield
        self.warnings += count_messages(caught)


class ComputedRun(Protocol):
    """What a run of any analysis found out, before it is stored."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall time of the stages after reading."""

    @property
    def scores(self) -> Mapping[str, float]:
        """The numbers that runs are compared by."""

    @property
    def notices(self) -> Sequence[str]:
        """Notices and warnings, for the terminal."""

    @property
    def audit(self) -> str:
        """The worst verdict of the audit."""

    def write(self, directory: Path, config: str, figures: str) -> "ComputedRun":
        """Write the files; return the run with a warning for every picture that could not be drawn.

        Parameters
        ----------
        config : str
            The resolved configuration, as YAML.
        figures : {"full", "light", "off"}
        """

    def describe(self, directory: Path, seconds: Mapping[str, float], run_id: str = "") -> "RunContent":
        """Return what is logged of it, given the directory of its files."""

    def log_model(self, run_id: str, uri: str) -> None:
        """Log the decoder as an MLflow model."""

    def show(self, name: str, where: str, tracked: "TrackedRun | None") -> None:
        """Print the results; `where` is the place of the files."""


def compute_run(
    data: RunData, progress: "Progress", single: bool, checkpoint: Path | None = None
) -> ComputedRun:
    """Compute a run of any analysis; nothing is stored.

    Parameters
    ----------
    single : bool
        Whether it is the only run of its command: a test then uses every core, and its estimated duration is
        printed.
    checkpoint : Path, optional
        Directory in which the parts of an interrupted test are kept.

    Raises
    ------
    HarnessError
        If the data cannot be used, or the question does not fit them.
    """
    from harness.app.decoding_run import compute_decoding
    from harness.app.searchlight_run import compute_searchlight

    if data.spec.searchlight is not None:
        return compute_searchlight(data, progress, single, checkpoint)
    return compute_decoding(data, progress, single, checkpoint)


def tag_foreign_code(config: Mapping[str, Any]) -> dict[str, str]:
    """Return tags with the digests of the code that is not the harness's: of a user's own classes."""
    from harness.app.allowed_targets import list_classes
    from harness.tracking.fingerprint import digest_foreign_code
    from harness.tracking.tags import CODE_TAG

    digests = digest_foreign_code(list_classes(config))
    return {f"{CODE_TAG}.{package}": digest for package, digest in digests.items()}
