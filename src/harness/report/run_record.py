"""What a report reads from a stored run: tables, configuration and images, each read once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from nibabel.affines import voxel_sizes

from harness.decoding.scores import nominal_chance
from harness.errors import HarnessError, TrackingError
from harness.inference.corrections import drop_observed
from harness.report.map_figures import StoredImages
from harness.report.methods_facts import MethodFacts, list_class_names
from harness.report.report_page import write_score
from harness.report.score_figures import ChanceBand, make_band
from harness.samples.contrasts import file_word
from harness.tracking.stored_run import NULL_TABLE, StoredRun
from harness.tracking.tags import INFERENCE_TAG, PRIMARY_TAG


def list_score_words(columns: Iterable[object]) -> dict[str, str]:
    """Return the score columns of a table with their words, the test scores first."""
    kinds = ("test_", "selected_")
    return {
        column: write_score(column)
        for kind in kinds
        for column in map(str, columns)
        if column.startswith(kind)
    }


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A stored run, and its images where they could be read again.

    Attributes
    ----------
    images : StoredImages or str
        The recording, or the reason why it is not available.
    """

    run: StoredRun
    images: StoredImages | str

    def method_facts(self) -> MethodFacts:
        """Return what the methods text is written from; errors as in `StoredRun.read_config`."""
        run = self.run
        images = self.images if isinstance(self.images, StoredImages) else None
        sizes = () if images is None else tuple(float(size) for size in voxel_sizes(images.mean.affine))
        return MethodFacts(
            config=run.read_config(),
            params=run.params,
            versions=run.versions,
            n_blocks=self.count_blocks(),
            n_relabellings=None if self.null is None else len(self.null),
            inference_method=run.tags.get(INFERENCE_TAG, ""),
            has_tested_maps=any(run.has_file(f"pattern_p_fwe_{name}.nii.gz") for name in self.map_names),
            t_r=None if images is None else images.t_r,
            voxel_sizes=sizes,
        )

    def count_blocks(self) -> int | None:
        """Return the number of decoded blocks: stretches of one condition in one scanner run.

        None if not every decoded volume was held out once, so that predictions do not tell.
        """
        try:
            rows = self.predictions.drop_duplicates("volume").sort_values("volume")
        except (HarnessError, KeyError):
            return None
        if str(len(rows)) != self.run.params.get("n_samples"):
            return None
        same = (rows[["run", "condition"]] == rows[["run", "condition"]].shift()).all(axis=1)
        # Volumes of another condition between two blocks of the same one.
        gap = rows["volume"].diff() > 1
        return int((~same | gap).sum())

    def describe_background(self) -> str:
        """Return what maps are drawn on, and why if it is not the anatomy."""
        if isinstance(self.images, str):
            return f"Drawn without anatomy: {self.images}."
        return (
            "Drawn on the mean volume." if self.images.anatomy is None else "Drawn on the anatomical image."
        )

    def band(self, column: str) -> ChanceBand:
        """Return the chance band of a score; nominal chance for a test that was to end early."""
        nominal = nominal_chance(column, len(self.classes))
        if self.null is None or column not in self.null or not self.run.has_complete_test:
            return make_band(None, nominal)
        return make_band(drop_observed(self.null[column].to_numpy(), self.run.is_enumerated), nominal)

    @cached_property
    def folds(self) -> pd.DataFrame:
        """Scores per fold."""
        return self.run.read_folds()

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per held-out volume."""
        return self.run.read_table("predictions.csv")

    @cached_property
    def null(self) -> pd.DataFrame | None:
        """The null distribution; None if the run was not tested, or its file was edited."""
        try:
            if self.run.has_file(NULL_TABLE):
                return self.run.read_null()
        except TrackingError:
            return None
        return None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration; empty where it cannot be read."""
        try:
            return self.run.read_config()
        except TrackingError:
            return {}

    @property
    def signal(self) -> Mapping[str, Any]:
        """The signal options; empty where the configuration cannot be read."""
        signal = self.config.get("signal")
        return signal if isinstance(signal, Mapping) else {}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes, the positive one first; without a configuration, in the order of their names."""
        classes = list_class_names(self.config)
        if classes:
            return classes
        try:
            return tuple(sorted(self.predictions["class"].astype(str).unique()))
        except (TrackingError, KeyError):
            return ()

    @property
    def score_words(self) -> dict[str, str]:
        """The score columns of the folds with their words."""
        return list_score_words(self.folds.columns)

    @property
    def primary(self) -> str:
        """The score of the answer: that of the test, the test score of the selection, or the first one."""
        words = list(self.score_words)
        scoring = self.config.get("scoring")
        select = scoring.get("select") if isinstance(scoring, Mapping) else None
        for column in (self.run.tags.get(PRIMARY_TAG), f"test_{select}", *words):
            if column in words:
                return str(column)
        raise TrackingError(f"folds.csv of run {self.run.title} has no scores")

    @cached_property
    def map_names(self) -> list[str]:
        """Names of the stored weights: the contrast of two classes, each class of more."""
        digests = self.run.file_digests
        if digests:
            skipped = ("weights_sd_",)
            found = [
                name.removeprefix("weights_").removesuffix(".nii.gz")
                for name in digests
                if name.startswith("weights_") and name.endswith(".nii.gz") and not name.startswith(skipped)
            ]
            endings = [f"_{file_word(name)}" for name in self.classes]  # as in all8_face
            return sorted(found, key=lambda name: [not name.endswith(ending) for ending in endings])
        contrast = self.run.params.get("contrast", "")
        names = [contrast, *(f"{contrast}_{file_word(name)}" for name in self.classes)]
        return [name for name in names if name and self.run.has_file(f"weights_{name}.nii.gz")]

    @property
    def positive(self) -> str:
        """What positive weights stand for."""
        classes = self.classes
        return f"evidence for {classes[0]}" if len(classes) == 2 else "evidence for the class that is named"
