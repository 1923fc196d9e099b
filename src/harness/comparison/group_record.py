"""Group summaries as a stored run: its metrics, its note in Markdown and its tables."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.comparison.group import GroupSummary
from harness.comparison.group_table import explain_columns, format_groups, tabulate_groups
from harness.tracking.group_run import GroupRecord
from harness.tracking.run_content import quote_markdown

NAMED_PARAMS = ("contrast", "roi", "signal", "estimator", "cv")


def split_groups(summaries: Sequence[GroupSummary]) -> list[list[GroupSummary]]:
    """Return the summaries of the scores of each configuration together."""
    groups: dict[tuple[tuple[str, str], ...], list[GroupSummary]] = {}
    for summary in summaries:
        groups.setdefault(tuple(summary.params.items()), []).append(summary)
    return list(groups.values())


def describe_group(scores: Sequence[GroupSummary], n_planned: int | None = None) -> GroupRecord:
    """Return what the scores of one configuration log to a run of their own.

    Metrics per score, for example ``test_accuracy``: ``test_accuracy_mean`` and ``_std`` over subjects,
    ``p_means/``, ``p_prevalence_global/``, ``p_prevalence_majority/`` and ``p_sign_flip/test_accuracy``, each
    with ``p_holm_...`` where there are several groups, ``null_mean/``, ``gamma0/`` and
    ``largest_gamma0/test_accuracy``.
    """
    first = max(scores, key=lambda summary: summary.n)
    metrics: dict[str, float] = {}
    for summary in scores:
        score = summary.score
        metrics |= {f"{score}_mean": summary.mean, f"{score}_std": summary.sd}
        metrics[f"null_mean/{score}"] = summary.null_mean
        metrics |= {f"p_{test}/{score}": p for test, p in summary.p_values.items()}
        metrics |= {f"p_holm_{test}/{score}": p for test, p in summary.p_holm.items()}
        if summary.prevalence is not None:
            for name in ("gamma0", "largest_gamma0"):
                value = getattr(summary.prevalence, name)
                metrics |= {} if value is None else {f"{name}/{score}": value}
    named = [first.params[name] for name in NAMED_PARAMS if name in first.params]
    return GroupRecord(
        name=" ".join([f"{first.n} subjects", *named]),
        params=first.params,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        run_ids=tuple(first.subjects["run_id"]),
        n_planned=n_planned or first.n,
        note=_describe(scores),
    )


def tabulate_subjects(scores: Sequence[GroupSummary]) -> pd.DataFrame:
    """Return one row per subject and score: ``score_name, subject, run_id, score, p``."""
    tables = [summary.subjects.assign(score_name=summary.score) for summary in scores]
    return pd.concat(tables, ignore_index=True)[["score_name", "subject", "run_id", "score", "p"]]


def group_to_json(scores: Sequence[GroupSummary]) -> str:
    """Return everything of the scores of one configuration as JSON, undefined numbers as null."""
    content = {
        "params": dict(scores[0].params),
        "scores": [_to_plain(summary) for summary in scores],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _to_plain(summary: GroupSummary) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "score": summary.score,
        "n": summary.n,
        "mean": _finite(summary.mean),
        "sd": _finite(summary.sd),
        "subjects": [
            {name: _finite(value) if isinstance(value, float) else value for name, value in row.items()}
            for row in summary.subjects.to_dict("records")
        ],
        "p": summary.p_values,
        "p_holm": dict(summary.p_holm),
        "n_tests": dict(summary.n_tests),
        "smallest_p": summary.smallest_p,
        "smallest_p_holm": dict(summary.smallest_p_holm),
        "is_primary": summary.is_primary,
        "notes": list(summary.notes),
    }
    if summary.mean_test is not None:
        test = summary.mean_test
        entry["permutation_of_means"] = {
            "combinations": test.n_draws,
            "enumerated": test.is_exact,
            "null_mean": _finite(summary.null_mean),
        }
    if summary.prevalence is not None:
        found = summary.prevalence
        entry["prevalence"] = {
            "minimum": found.minimum,
            "gamma0": found.gamma0,
            "largest_gamma0": found.largest_gamma0,
        }
    if summary.sign_flip is not None:
        flipped = summary.sign_flip
        entry["sign_flip"] = {
            "null": "global null: every score is symmetric about 0.5",
            "difference": flipped.difference,
            "p_two_sided": flipped.p,
            "d_z": _finite(flipped.d_z),
            "hedges_g": _finite(flipped.hedges_g),
            "interval": None if flipped.interval is None else list(flipped.interval),
            "coverage": flipped.coverage,
        }
    return entry


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _describe(scores: Sequence[GroupSummary]) -> str:
    params = ", ".join(f"{name}={value}" for name, value in scores[0].params.items())
    cells = format_groups(tabulate_groups(scores))
    lines = [
        f"**{max(summary.n for summary in scores)} subjects**: {quote_markdown(params)}",
        "",
        f"| score | {' | '.join(map(str, cells))} |",
        "|---" * (cells.shape[1] + 1) + "|",
        *(
            f"| {quote_markdown(summary.score)} | {' | '.join(row)} |"
            for summary, row in zip(scores, cells.to_numpy().tolist(), strict=True)
        ),
        "",
        explain_columns(cells, scores),
        "",
    ]
    notes = dict.fromkeys(note for summary in scores for note in summary.notes)
    return "\n".join(
        [*lines, *(f"- {quote_markdown(note)}" for note in notes), "", *_describe_subjects(scores)]
    )


def _describe_subjects(scores: Sequence[GroupSummary]) -> list[str]:
    """Return the table of the subjects' scores in Markdown."""
    table = tabulate_subjects(scores)
    names = [summary.score for summary in scores]
    by_subject = table.pivot(index=["subject", "run_id"], columns="score_name", values="score")[names]
    order = list(dict.fromkeys(zip(table["subject"], table["run_id"], strict=True)))
    lines = [
        f"| subject | {' | '.join(quote_markdown(name) for name in names)} | run |",
        "|---" * (len(names) + 2) + "|",
    ]
    for subject, run_id in order:
        values = [_format(float(value)) for value in by_subject.loc[(subject, run_id)]]
        lines.append(f"| {quote_markdown(subject)} | {' | '.join(values)} | {run_id[:8]} |")
    return lines


def _format(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
