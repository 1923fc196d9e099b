"""What a report reads from several stored runs: parameters, scores, null distributions and contrasts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from harness.comparison.group import GroupSummary, summarise_groups
from harness.decoding.scores import nominal_chance
from harness.errors import DesignError, TrackingError, first_line
from harness.report.methods_facts import list_class_names
from harness.report.report_page import write_words
from harness.report.score_figures import ChanceBand, make_band
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import DEFAULT_SCORES, StoredRun, choose_newest
from harness.tracking.tags import AUDIT_TAG, NOTICES_TAG, PRIMARY_TAG

MAX_ROWS = 40  # of a figure of scores; more runs are drawn by configuration


@dataclass(frozen=True, eq=False)
class SweepRecord:
    """Several stored runs; tables are read when they are needed.

    Attributes
    ----------
    finished : tuple of StoredRun
        Those of `runs` that are FINISHED, at least one.
    """

    runs: tuple[StoredRun, ...]
    finished: tuple[StoredRun, ...]

    @cached_property
    def params(self) -> tuple[dict[str, str], dict[str, list[str]]]:
        """The parameters that all runs share, and the values of those that vary."""
        values = {
            name: sorted({run.params.get(name, "") for run in self.finished}, key=_order)
            for name in COMPARED_PARAMS
        }
        fixed = {name: found[0] for name, found in values.items() if len(found) == 1 and found[0]}
        return fixed, {name: found for name, found in values.items() if len(found) > 1}

    @property
    def varying_names(self) -> list[str]:
        """The parameters that vary."""
        return list(self.params[1])

    @cached_property
    def notices(self) -> list[str]:
        """Notices of the data sets, such as that they are simulated."""
        texts = (text for run in self.finished for text in run.tags.get(NOTICES_TAG, "").splitlines())
        return list(dict.fromkeys(texts))[:5]

    @cached_property
    def score(self) -> str:
        """The score of the figures: the primary one of the tests, or the usual one that all runs have."""
        primary = {run.tags.get(PRIMARY_TAG) for run in self.finished} - {None}
        common = set.intersection(*({key for key in run.metrics} for run in self.finished))
        for score in (
            *map(str, primary if len(primary) == 1 else ()),
            *DEFAULT_SCORES,
            "test_balanced_accuracy",
        ):
            if f"{score}_mean" in common:
                return score
        names = sorted(key.removesuffix("_mean") for key in common if key.endswith("_mean"))
        if not names:
            raise DesignError("these runs have no score in common; select runs with the same scoring")
        return names[0]

    @cached_property
    def means(self) -> pd.DataFrame:
        """One row per run: identifier, varying parameters, mean, SD and p of the score, audit."""
        score, (_, varying) = self.score, self.params
        rows = []
        for place, run in enumerate(self.finished):
            row: dict[str, object] = {"run": run.run_id[:8]}
            row |= {
                name: run.params.get(name, "") for name in dict.fromkeys([*varying, "subject", "contrast"])
            }
            row |= {score: run.metrics.get(f"{score}_mean", np.nan)}
            row |= {"SD": run.metrics.get(f"{score}_std", np.nan)}
            if any(f"p_value/{score}" in other.metrics for other in self.finished):
                row["p"] = run.metrics.get(f"p_value/{score}", np.nan)
            rows.append(row | {"audit": run.tags.get(AUDIT_TAG, ""), "place": place})
        table = pd.DataFrame(rows)
        names = [name for name in varying if name != "subject"] + ["subject"]
        return table.sort_values(names, key=lambda column: column.map(_order)).reset_index(drop=True)

    @cached_property
    def newest(self) -> pd.DataFrame:
        """Those rows of `means` that are of the newest run of a configuration."""
        chosen = {run.run_id for run in choose_newest(self.finished)}
        return self.means[[self.finished[place].run_id in chosen for place in self.means["place"]]]

    def rows_by_run(self) -> tuple[pd.DataFrame, list[ChanceBand | None]]:
        """Return label, group and scores per fold of every run, and its chance band."""
        varying = self.varying_names
        rows: list[tuple[str, str, np.ndarray]] = []
        bands: list[ChanceBand | None] = []
        first = next((name for name in varying if name != "subject"), None)
        for row in self.means.to_dict("records"):
            run = self.finished[row["place"]]
            folds = self.folds.get(run.run_id)
            if folds is None or self.score not in folds:
                continue
            words = [write_words(row[name]) for name in varying if name != "subject"]
            label = ", ".join(words + ([f"sub-{row['subject']}"] if "subject" in varying else []))
            group = write_words(row[first]) if first else ""
            rows.append((label or run.name, group, folds[self.score].to_numpy(dtype=float)))
            bands.append(self.band(run))
        if not rows:
            raise TrackingError("folds.csv of no run can be read")
        return pd.DataFrame(rows, columns=["label", "group", "values"]), bands

    def rows_by_configuration(self) -> tuple[pd.DataFrame, list[ChanceBand | None]]:
        """Return label, group and mean scores of subjects of every configuration, and nominal chance."""
        names = [name for name in self.varying_names if name not in ("subject", "inference")]
        groups = self.newest.groupby(names, sort=False) if names else [((), self.newest)]
        rows: list[tuple[str, str, np.ndarray]] = []
        bands: list[ChanceBand | None] = []
        for key, members in groups:
            values = key if isinstance(key, tuple) else (key,)
            label = ", ".join(write_words(value) for value in values) or "all runs"
            means = members[self.score].to_numpy(dtype=float)
            rows.append((label, write_words(values[0]) if values else "", means))
            n_classes = self.n_classes(str(members["contrast"].iloc[0]))
            bands.append(ChanceBand(nominal_chance(self.score, n_classes), None))
        return pd.DataFrame(rows, columns=["label", "group", "values"]), bands

    @cached_property
    def folds(self) -> Mapping[str, pd.DataFrame]:
        """Scores per fold by run; runs whose table cannot be read are left out, see `unread`."""
        tables = {}
        for run in self.finished:
            try:
                tables[run.run_id] = run.read_folds()
            except TrackingError:
                continue
        return tables

    @property
    def unread(self) -> list[str]:
        """Why scores per fold could not be read, of the first runs; empty for many runs, which need none."""
        if len(self.finished) > MAX_ROWS:
            return []
        texts = []
        for run in [run for run in self.finished if run.run_id not in self.folds][:5]:
            try:
                run.read_folds()
            except TrackingError as error:
                texts.append(first_line(error))
        return texts

    def band(self, run: StoredRun) -> ChanceBand:
        """Return the chance band of a run; nominal chance for a test that was to end early."""
        nominal = nominal_chance(self.score, self.n_classes(run.params.get("contrast", "")))
        if not run.has_complete_test:
            return make_band(None, nominal)
        try:
            return make_band(run.read_null_scores(self.score), nominal)
        except TrackingError:
            return make_band(None, nominal)

    @cached_property
    def groups(self) -> list[GroupSummary]:
        """Group summaries; empty for one subject."""
        if "subject" not in self.params[1]:
            return []
        return summarise_groups(list(self.finished), [self.score])

    @cached_property
    def classes(self) -> Mapping[str, tuple[tuple[str, ...], bool]]:
        """By contrast: its classes, and whether each is one condition; one configuration of each is read."""
        found: dict[str, tuple[tuple[str, ...], bool]] = {}
        for run in self.finished:
            contrast = run.params.get("contrast", "")
            if contrast in found:
                continue
            try:
                config = run.read_config()
            except TrackingError:
                continue
            node = config.get("contrast")
            conditions = node.get("conditions", ()) if isinstance(node, dict) else ()
            single = all(not isinstance(item, dict) for item in conditions)
            found[contrast] = list_class_names(config), single
        return found

    def n_classes(self, contrast: str) -> int:
        """Return the number of classes of a contrast; 2 where it is not known."""
        return len(self.classes.get(contrast, ((), False))[0]) or 2

    def pair(self, contrast: str) -> tuple[str, str] | None:
        """Return the two conditions of a contrast; None for any other contrast."""
        classes, single = self.classes.get(contrast, ((), False))
        return (classes[0], classes[1]) if single and len(classes) == 2 else None

    def split(self, left: set[str]) -> list[tuple[str, pd.DataFrame]]:
        """Split the newest runs by varying parameters but some; return label and rows of each part."""
        names = [name for name in self.varying_names if name not in left | {"inference"}]
        if not names:
            return [("", self.newest)]
        parts = []
        for key, rows in self.newest.groupby(names, sort=False):
            values = key if isinstance(key, tuple) else (key,)
            parts.append((", ".join(write_words(value) for value in values), rows))
        return parts


def _order(value: object) -> tuple[int, float, str]:
    """Order numbers by value, before other words."""
    text = str(value)
    return (0, float(text), "") if text.replace(".", "", 1).isdigit() else (1, 0.0, text)
