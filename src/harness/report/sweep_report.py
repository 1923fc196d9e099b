"""The report of several runs, such as those of a sweep: scores, comparisons, matrices and what they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from harness.comparison.group_table import explain_columns, format_groups, tabulate_groups
from harness.comparison.paired import CORRECTED_T, SIGN_FLIP, PairedComparison, compare_by
from harness.decoding.scores import nominal_chance
from harness.errors import DesignError, HarnessError, TrackingError
from harness.inference.corrections import format_p
from harness.report.matrix_figures import (
    draw_dissimilarity,
    draw_scores,
    make_dissimilarity,
    matrix_size,
    tabulate_scores,
)
from harness.report.methods_references import REFERENCES
from harness.report.methods_text import write_methods
from harness.report.report_page import (
    Block,
    DataTable,
    Drawing,
    Section,
    Text,
    make_section,
    write_report,
    write_score,
    write_words,
)
from harness.report.run_record import RunRecord
from harness.report.score_figures import draw_rows
from harness.report.sweep_group_maps import select_group_maps, show_group_maps
from harness.report.sweep_record import MAX_ROWS, SweepRecord
from harness.report.sweep_searchlights import SearchlightSweep
from harness.samples.contrasts import file_word
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.stored_run import StoredRun
from harness.tracking.tags import AUDIT_TAG, ERROR_TAG, INFERENCE_TAG

MAX_TABLE = 200  # runs in the table of the page
MAX_MATRICES, MAX_MATRICES_OF_MANY = 6, 2
MAX_COMPARED = 300  # runs whose pairs are compared on the page
COMPARED_KEYS = ("estimator", "roi", "signal", "engine", "scoring")
PAIR_COLUMNS = (
    *("first", "second", "n", "mean_first", "mean_second", "difference", "low", "high", "effect"),
    *("p", "p_holm", "note"),
)
MAX_NOTES = 8
COUNTS = ("n_samples", "n_voxels", "n_folds", "n_folds_skipped")


def write_sweep_report(
    title: str,
    runs: Sequence[StoredRun],
    directory: Path,
    notes: Sequence[str] = (),
    groups: Sequence[StoredRun] = (),
) -> list[Path]:
    """Write the report of several runs, and of their group runs; see `report_page.write_report`.

    Raises
    ------
    DesignError
        If no run is FINISHED.
    UsageError
        If the directory cannot be written.
    """
    return write_report(title, *describe_runs(runs, notes, groups), directory)


def describe_runs(
    runs: Sequence[StoredRun], notes: Sequence[str] = (), groups: Sequence[StoredRun] = ()
) -> tuple[str, list[Section]]:
    """Return subtitle and sections of the report of several runs."""
    finished = tuple(run for run in runs if run.status == "FINISHED")
    if not finished:
        raise DesignError(
            f"{len(runs)} runs match and none is FINISHED, so there is nothing to report; python -m harness "
            "runs lists their status"
        )
    whole = SweepContent(SweepRecord(tuple(runs), finished), tuple(notes))
    decoded = tuple(run for run in finished if not run.is_searchlight)
    mapped = tuple(run for run in finished if run.is_searchlight)
    content = SweepContent(SweepRecord(decoded, decoded))
    maps = SearchlightSweep(SweepRecord(mapped, mapped))
    group_maps = select_group_maps(groups)
    builders: dict[str, tuple[str, Callable[[], Sequence[Block]]]] = {
        "summary": ("Summary", whole.summary),
        "maps": ("Searchlight maps", maps.maps),
        "group-maps": ("Searchlight maps over subjects", partial(show_group_maps, group_maps)),
        "scores": ("Scores", content.scores),
        "groups": ("Group of subjects", content.groups),
        "pairs": ("Paired comparisons", content.pairs),
        "subjects": ("Subjects by contrasts", content.subjects),
        "dissimilarity": ("Dissimilarity of conditions", content.dissimilarity),
        "audit": ("Audit", whole.audit),
        "methods": ("Methods", content.methods),
        "map-methods": ("Methods of the searchlights", maps.methods),
        "runs": ("All runs", content.all_runs),
    }
    absent = [] if mapped else ["maps", "map-methods"]
    absent += [] if group_maps else ["group-maps"]
    if not decoded:
        absent += ["scores", "groups", "pairs", "subjects", "dissimilarity", "methods", "runs"]
    for anchor in absent:
        del builders[anchor]
    sections = [make_section(anchor, *entry) for anchor, entry in builders.items()]
    counts = pd.Series([run.status for run in runs]).value_counts()
    shown = ", ".join(f"{n} {status}" for status, n in counts.items())
    return f"{len(runs)} runs: {shown}", sections


@dataclass(frozen=True, eq=False)
class SweepContent:
    """The blocks of every section of a report on several runs.

    Attributes
    ----------
    notes : tuple of str
        Shown at the top.
    """

    record: SweepRecord
    notes: tuple[str, ...] = field(default=())

    def summary(self) -> list[Block]:
        """Return what the runs share and vary, notices, and the failed runs."""
        fixed, varying = self.record.params
        text = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in varying.items())
        blocks: list[Block] = [Text(f"Varied: {text or 'nothing'}.", "lead")]
        blocks += [Text(note, "notice") for note in (*self.notes, *self.record.notices)]
        failed = [run for run in self.record.runs if run.status != "FINISHED"]
        if failed:
            table = pd.DataFrame(
                {
                    "run": [run.run_id[:8] for run in failed],
                    "name": [run.name for run in failed],
                    "status": [run.status for run in failed],
                    "reason": [run.tags.get(ERROR_TAG, "") for run in failed],
                }
            ).head(MAX_TABLE)
            blocks.append(Text(f"{len(failed)} runs have no results and are in no figure or test.", "notice"))
            blocks.append(DataTable(table, "Runs that did not finish."))
        shared = pd.DataFrame({"setting": list(fixed), "value": list(fixed.values())})
        return [*blocks, DataTable(shared, "The same in all runs.")]

    def scores(self) -> list[Block]:
        """Return figure and table of the scores of every run, or of every configuration of many."""
        score, means = self.record.score, self.record.means
        by_run = len(means) <= MAX_ROWS
        rows, bands = self.record.rows_by_run() if by_run else self.record.rows_by_configuration()
        hidden = len(rows) - MAX_ROWS
        rows, bands = rows.head(MAX_ROWS), bands[:MAX_ROWS]
        unit = "fold" if by_run else "subject"
        tested = [band for band in bands if band is not None and band.limits is not None]
        if not by_run:
            band_words = "The dashed line is nominal chance."
        elif len(tested) == len(bands):
            band_words = "Grey: 95 % range of the mean under relabelling, dotted its mean."
        elif tested:
            band_words = (
                "Grey: 95 % range of the mean under relabelling; runs without a complete test have a dashed "
                "line at nominal chance."
            )
        else:
            band_words = "The dashed line is nominal chance (balanced classes), not a test."
        lowest, highest = means[score].min(), means[score].max()
        figure = Drawing(
            "scores",
            (6.8, 1.1 + 0.24 * len(rows)),
            partial(draw_rows, rows=rows, score=write_score(score), unit=unit, bands=bands),
            f"{write_score(score)} of {len(rows)} {'runs' if by_run else 'configurations'}; their means are "
            f"from {lowest:.3f} to {highest:.3f}.",
            f"{write_score(score)}: a grey point per {unit}, mean and SD over {unit}s. {band_words}"
            + (f" {hidden} more configurations are in the table." if hidden > 0 else ""),
        )
        return [figure, *(Text(f"Not in the figure: {text}", "notice") for text in self.record.unread)]

    def groups(self) -> list[Block]:
        """Return the group summary of every configuration of several subjects; nothing for one subject."""
        groups = self.record.groups
        if not groups:
            return []
        cells = format_groups(tabulate_groups(groups), with_limit=True)
        names = [name for name in self.record.varying_names if name not in ("subject", "inference")]
        options = [", ".join(write_words(group.params.get(name, "")) for name in names) for group in groups]
        cells.insert(0, "configuration", [text or "all runs" for text in options])
        caption = f"{write_score(self.record.score)} over subjects; {explain_columns(cells, groups)}"
        notes = [note for group in groups for note in group.notes]
        more = [
            Text(f"{note[0].upper()}{note[1:]}.", "note") for note in list(dict.fromkeys(notes))[:MAX_NOTES]
        ]
        return [DataTable(cells, caption), *more]

    @property
    def compared_keys(self) -> list[str]:
        """The varying parameters whose values are compared."""
        return [name for name in COMPARED_KEYS if name in self.record.params[1]]

    @cached_property
    def comparisons(self) -> dict[str, list[PairedComparison] | HarnessError]:
        """Comparisons by every key, or why there are none; empty for more than `MAX_COMPARED` runs."""
        found: dict[str, list[PairedComparison] | HarnessError] = {}
        for key in self.compared_keys if len(self.record.finished) <= MAX_COMPARED else ():
            try:
                found[key] = compare_by(list(self.record.finished), key, [self.record.score])
            except HarnessError as error:
                found[key] = error
        return found

    def pairs(self) -> list[Block]:
        """Return the tests of pairs of every parameter that can be compared."""
        keys = self.compared_keys
        if keys and len(self.record.finished) > MAX_COMPARED:
            return [
                Text(
                    f"With more than {MAX_COMPARED} runs the page has no paired comparisons; select runs, or "
                    f"use python -m harness compare by={keys[0]}."
                )
            ]
        blocks: list[Block] = []
        for key, comparisons in self.comparisons.items():
            if isinstance(comparisons, HarnessError):
                blocks.append(Text(f"By {key}: {comparisons}", "notice"))
                continue
            for unit in ("subject", "fold"):
                blocks += _describe_pairs([item for item in comparisons if item.unit == unit])
        return blocks

    def subjects(self) -> list[Block]:
        """Return the matrices of subjects by contrasts; nothing where only one of them varies."""
        varying = self.record.params[1]
        if not {"subject", "contrast"} <= set(varying):
            return []
        blocks: list[Block] = []
        mean = f"mean {write_score(self.record.score)}"
        for label, rows in self.record.split({"subject", "contrast"}):
            table = tabulate_scores(rows, self.record.score)
            n_classes = {self.record.n_classes(str(name)) for name in table.columns}
            chance = nominal_chance(self.record.score, n_classes.pop()) if len(n_classes) == 1 else None
            shown = f" ({label})" if label else ""
            blocks.append(
                Drawing(
                    f"subjects_by_contrasts{_file_suffix(label)}",
                    matrix_size(len(table), len(table.columns), 0.42),
                    partial(draw_scores, table=table, chance=chance, score=mean),
                    f"Matrix of {len(table)} subjects by {len(table.columns)} contrasts{shown}; means from "
                    f"{np.nanmin(table.to_numpy()):.3f} to {np.nanmax(table.to_numpy()):.3f}.",
                    f"{mean[0].upper()}{mean[1:]} over folds by subject and contrast{shown}. Empty: no run.",
                )
            )
        return _limit(blocks, len(self.record.finished))

    def dissimilarity(self) -> list[Block]:
        """Return the matrices of conditions by conditions, where contrasts are pairs of conditions."""
        contrasts = self.record.means["contrast"].astype(str).unique()
        pairs = {name: pair for name in contrasts if (pair := self.record.pair(name)) is not None}
        blocks: list[Block] = []
        mean = f"mean {write_score(self.record.score)}"
        for label, rows in self.record.split({"subject", "contrast"}):
            matrix = make_dissimilarity(rows, pairs, self.record.score)
            if matrix is None:
                return []
            n, shown = rows["subject"].nunique(), f" ({label})" if label else ""
            found, total = int(matrix.notna().sum().sum()) // 2, len(matrix) * (len(matrix) - 1) // 2
            blocks.append(
                Drawing(
                    f"dissimilarity{_file_suffix(label)}",
                    matrix_size(len(matrix), len(matrix), 0.55),
                    partial(draw_dissimilarity, matrix=matrix, score=mean),
                    f"Matrix of {len(matrix)} conditions{shown}; {found} of {total} pairs were decoded.",
                    f"Pairwise-decoding dissimilarity of conditions{shown}: {mean} "
                    f"of the two, over {n} {'subject' if n == 1 else 'subjects'}; higher: more different. "
                    f"{found} of {total} pairs were decoded.",
                )
            )
        return _limit(blocks, len(self.record.finished))

    def audit(self) -> list[Block]:
        """Return the number of runs by verdict, and the findings that are not ok, by rule."""
        verdicts = pd.Series([run.tags.get(AUDIT_TAG, "not audited") for run in self.record.finished])
        counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.value_counts().items())
        blocks: list[Block] = [Text(f"Worst verdicts of {len(self.record.finished)} runs: {counts}.")]
        rules: dict[tuple[str, str], list[str]] = {}
        unread = 0
        for run in self.record.finished:
            try:
                for finding in run.read_findings():
                    if finding.verdict != "ok":
                        rules.setdefault((str(finding.verdict), finding.rule), []).append(finding.evidence)
            except TrackingError:
                unread += 1
        if unread:
            blocks.append(Text(f"audit.json of {unread} runs cannot be read or was edited.", "notice"))
        table = pd.DataFrame(
            [
                (verdict, write_words(rule), len(evidence), evidence[0])
                for (verdict, rule), evidence in sorted(rules.items(), reverse=True)
            ],
            columns=["verdict", "rule", "runs", "evidence of the newest run"],
        )
        return [*blocks, DataTable(table, "Findings that are not ok.")] if rules else blocks

    def methods(self) -> list[Block]:
        """Return the methods text of what the runs share, with the values that vary."""
        tested = [run for run in self.record.finished if INFERENCE_TAG in run.tags]
        shown = (tested or self.record.finished)[0]
        varying = self.record.params[1]
        params = dict(shown.params) | {name: ", ".join(map(str, values)) for name, values in varying.items()}
        for name in COUNTS:
            values = pd.to_numeric(pd.Series([run.params.get(name) for run in self.record.finished])).dropna()
            if values.nunique() > 1:
                params[name] = f"{values.min():.0f} to {values.max():.0f}"
        facts = RunRecord(shown, "the recording is not read").method_facts()
        # Runs can differ in the number of blocks, and of their relabellings.
        methods = write_methods(replace(facts, params=params, n_blocks=None, n_relabellings=None))
        varied = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in varying.items())
        sentences, keys = self._describe_tests()
        references = [*methods.references, *(REFERENCES[key] for key in keys)]
        return [
            Text(
                f"Generated from the configuration of the newest {'tested ' if tested else ''}run, "
                f"{shown.title}; these settings vary: {varied or 'none'}. Adapt the sentences on them.",
                "notice",
            ),
            Text("\n\n".join(filter(None, [*methods.paragraphs, " ".join(sentences)])), "copy"),
            Text("References", "lead"),
            Text("\n".join(references), "copy"),
            Text(f"To be added, because no configuration knows it: {'; '.join(methods.missing)}.", "notice"),
        ]

    def _describe_tests(self) -> tuple[list[str], list[str]]:
        """Return sentences on the tests of this page that were computed, and the keys of their references."""
        pairs = [
            pair
            for found in self.comparisons.values()
            if not isinstance(found, HarnessError)
            for pair in found
        ]
        tested = [pair for pair in pairs if "p" in pair.table and pair.table["p"].notna().any()]
        groups = self.record.groups
        over_subjects = "the global null hypothesis that no subject has an effect was tested by"
        holm = any(len(pair.table) > 1 for pair in tested) or any(group.p_holm for group in groups)
        tests: list[tuple[bool, str, tuple[str, ...]]] = [
            (
                any(pair.test.startswith(CORRECTED_T) for pair in tested),
                "Paired scores of folds were compared by the corrected resampled t-test (Nadeau and Bengio "
                "2003).",
                ("corrected-t",),
            ),
            (
                any(pair.test == SIGN_FLIP for pair in tested),
                "Paired mean scores of subjects were compared by a two-sided sign-flip test.",
                (),
            ),
            (
                any(group.mean_test is not None for group in groups),
                f"Over subjects, {over_subjects} permutation of means (Stelzer et al. 2013).",
                ("means",),
            ),
            (
                any(group.sign_flip is not None for group in groups),
                f"Over subjects, {over_subjects} flipping the signs of the scores minus .5, one-sided.",
                (),
            ),
            (
                any(group.prevalence is not None for group in groups),
                "The share of the population that has an effect was inferred from the smallest score over "
                "subjects (Allefeld et al. 2016).",
                ("prevalence",),
            ),
            (
                holm,
                "p-values of several comparisons were corrected by Holm's procedure (Holm 1979).",
                ("holm",),
            ),
        ]
        made = [(sentence, keys) for is_made, sentence, keys in tests if is_made]
        return [sentence for sentence, _ in made], [key for _, keys in made for key in keys]

    def all_runs(self) -> list[Block]:
        """Return the table of the runs, of at most `MAX_TABLE`."""
        table = self.record.means.drop(columns=["place"])
        shown = table.rename(columns={name: write_words(name) for name in table}).head(MAX_TABLE)
        caption = "Mean and SD over folds."
        if len(table) > MAX_TABLE:
            caption += (
                f" The first {MAX_TABLE} of {len(table)} in this order; python -m harness compare --sweep ID "
                f"--most {len(table)} --csv FILE writes all."
            )
        return [DataTable(shown, caption)]


def _limit(blocks: list[Block], n_runs: int) -> list[Block]:
    """Return the first matrices, fewer of many runs, and the number of those left out."""
    limit = MAX_MATRICES if n_runs <= MAX_COMPARED else MAX_MATRICES_OF_MANY
    if len(blocks) <= limit:
        return blocks
    hidden = len(blocks) - limit
    return [*blocks[:limit], Text(f"{hidden} more matrices: select runs with NAME=VALUE.", "note")]


def _describe_pairs(comparisons: Sequence[PairedComparison]) -> list[Block]:
    """Return one table of the comparisons by one key, over folds or over subjects, and their notes."""
    if not comparisons:
        return []
    first = comparisons[0]
    tables = []
    names = [name for name in COMPARED_PARAMS if len({item.fixed.get(name) for item in comparisons}) > 1]
    for item in comparisons:
        table = item.table[[name for name in PAIR_COLUMNS if name in item.table]].copy()
        for place, name in enumerate(names):
            table.insert(place, name, write_words(item.fixed.get(name, "")))
        tables.append(table)
    found = [table for table in tables if len(table)]
    refusals = list(dict.fromkeys(item.refusal for item in comparisons if item.refusal))
    notes = list(dict.fromkeys(note for item in comparisons for note in item.notes))
    texts = [Text(refusal, "notice") for refusal in refusals[:MAX_NOTES]]
    texts += [Text(note, "note") for note in notes[:MAX_NOTES]]
    heading = Text(f"By {first.key}, {write_score(first.score)}, over {first.unit}s.")
    if not found:
        return [heading, *texts]
    table = pd.concat(found, ignore_index=True)
    for name in ("p", "p_holm"):
        table[name] = ["-" if pd.isna(value) else format_p(value) for value in table[name]]
    table = table.loc[:, [not (table[name].isna() | table[name].isin(["", "-"])).all() for name in table]]
    table = table.rename(columns={"low": "95 % low", "high": "95 % high", "p_holm": "p (Holm)"})
    table = table.rename(columns={name: write_words(name) for name in table})
    tests = dict.fromkeys(item.test for item in comparisons if item.test != "none")
    caption = f"n: {first.unit}s; difference: first minus second. {'; '.join(tests) or 'No test'}."
    if tests:
        caption += " p (Holm): corrected over the pairs of this key, for equal other settings."
    return [heading, DataTable(table, caption), *texts]


def _file_suffix(label: str) -> str:
    return f"_{file_word(label)[:60]}" if label else ""
