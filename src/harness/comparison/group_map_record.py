"""Maps over subjects as a stored run: its metrics, its note in Markdown and its summary in JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.comparison.group_maps import GroupMaps
from harness.comparison.group_record import NAMED_PARAMS
from harness.inference.corrections import ALPHA, format_p
from harness.searchlight.descriptions import describe_within
from harness.tracking.group_run import GroupRecord
from harness.tracking.run_content import quote_markdown

TESTS = {
    "means": "permutation of means, maximum statistic",
    "cluster_size": "permutation of means, cluster size",
    "prevalence_global": "prevalence, global null",
    "prevalence_majority": "prevalence, majority null",
    "sign_flip_tfce": "sign flip, TFCE",
    "sign_flip": "sign flip, maximum statistic",
}
HYPOTHESES = {
    "means": "no subject has information there",
    "cluster_size": "no subject has information in the cluster",
    "prevalence_global": "no one in the population has information there",
    "prevalence_majority": "at most half of the population has information there (corrected for voxels with "
    "information in no one)",
    "sign_flip_tfce": "scores are symmetric about 0.5 in all subjects",
    "sign_flip": "scores are symmetric about 0.5 in all subjects",
}
OVER_VOXELS = "P-values are corrected over the voxels of a map"


def corrected_p(maps: GroupMaps) -> dict[str, NDArray[np.float64]]:
    """Return the p-values that are corrected over voxels, by test (`TESTS`)."""
    found: dict[str, NDArray[np.float64]] = {}
    if maps.mean_test is not None:
        found["means"] = maps.mean_test.p_fwe
        if maps.mean_test.clusters is not None:
            found["cluster_size"] = maps.mean_test.clusters.p
    if maps.prevalence is not None:
        found["prevalence_global"] = maps.prevalence.p_global_corrected
        found["prevalence_majority"] = maps.prevalence.p_majority_corrected
    if maps.sign_flip is not None:
        found["sign_flip_tfce"] = maps.sign_flip.p_tfce
        found["sign_flip"] = maps.sign_flip.p_fwe
    return found


def largest_gamma0(maps: GroupMaps) -> float:
    """Return the largest gamma0 of a map after the correction over voxels; NaN if there is none."""
    if maps.prevalence is None or np.isnan(maps.prevalence.gamma0_corrected).all():
        return math.nan
    return float(np.nanmax(maps.prevalence.gamma0_corrected))


def measure_maps(maps: GroupMaps) -> dict[str, float]:
    """Return the metrics of maps over subjects.

    ``max_mean_score``, ``median_mean_score``, ``n_voxels``, and per test, for example ``means``:
    ``n_corrected/means`` (voxels with a corrected p of at most .05) and ``smallest_p/means``; ``max_gamma0``,
    ``p_holm/means``, ``threshold/means`` (of the standardised mean).
    """
    metrics = {
        "max_mean_score": float(maps.mean.max()),
        "median_mean_score": float(np.median(maps.mean)),
        "n_voxels": float(len(maps.mean)),
        "max_gamma0": largest_gamma0(maps),
        "p_holm/means": maps.p_holm,
    }
    for name, p in corrected_p(maps).items():
        metrics |= {f"n_corrected/{name}": float((p <= ALPHA).sum()), f"smallest_p/{name}": float(p.min())}
    if maps.mean_test is not None and maps.mean_test.threshold is not None:
        metrics["threshold/means"] = maps.mean_test.threshold
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def describe_maps(maps: GroupMaps, n_planned: int | None = None) -> GroupRecord:
    """Return what maps over subjects log to a run of their own; metrics: see `measure_maps`."""
    named = [maps.params[name] for name in NAMED_PARAMS if name in maps.params]
    return GroupRecord(
        name=" ".join([f"{maps.n} subjects", "searchlight", *named]),
        params=maps.params,
        metrics=measure_maps(maps),
        run_ids=tuple(maps.subjects["run_id"]),
        n_planned=n_planned or maps.n,
        note=_write_note(maps),
    )


def maps_to_json(maps: GroupMaps) -> str:
    """Return the counts, thresholds and notes of maps over subjects as JSON, undefined numbers as null."""
    return json.dumps(maps_to_plain(maps), indent=1, allow_nan=False) + "\n"


def maps_to_plain(maps: GroupMaps) -> dict[str, Any]:
    """Return the counts, thresholds and notes of maps over subjects, undefined numbers as None."""
    content: dict[str, Any] = {
        "params": dict(maps.params),
        "settings": dict(maps.settings),
        "n": maps.n,
        "space": maps.grid.space,
        "n_voxels": len(maps.mean),
        "n_voxels_not_in_all": maps.grid.n_partial,
        "max_mean_score": float(maps.mean.max()),
        "median_mean_score": float(np.median(maps.mean)),
        "tests": {
            name: {
                "n_corrected": int((p <= ALPHA).sum()),
                "smallest_p": float(p.min()),
                "null_hypothesis": HYPOTHESES[name],
            }
            for name, p in corrected_p(maps).items()
        },
        "smallest_p_holm": _finite(maps.p_holm),
        "subjects": [
            {name: _finite(value) if isinstance(value, float) else value for name, value in row.items()}
            for row in maps.subjects.to_dict("records")
        ],
        "notes": list(maps.notes),
    }
    if (test := maps.mean_test) is not None:
        content["permutation_of_means"] = {
            "statistic": maps.settings["statistic"],
            "combinations": test.n_draws,
            "enumerated": test.is_exact,
            "threshold": test.threshold,
            "max_z": float(test.z.max()),
            "cluster_z": None if test.clusters is None else test.clusters.threshold,
        }
    if (found := maps.prevalence) is not None:
        content["prevalence"] = {
            "max_gamma0": _finite(largest_gamma0(maps)),
            "largest_possible_gamma0": _finite(found.largest_gamma0),
            "smallest_possible_p_majority": found.smallest_p_majority,
        }
    if (flipped := maps.sign_flip) is not None:
        content["sign_flip"] = {
            "patterns": flipped.n_patterns,
            "enumerated": flipped.is_exact,
            "threshold_tfce": flipped.threshold_tfce,
        }
    return content


def explain_several(groups: Sequence[GroupMaps]) -> str:
    """Return in a sentence what the p-values of the maps of a sweep are corrected for."""
    n = sum(item.mean_test is not None for item in groups)
    if n < 2:
        return f"{OVER_VOXELS}."
    return (
        f"{OVER_VOXELS}, not over the {n} maps; p Holm is the smallest p of the permutation of means of a "
        f"map, corrected for the {n} maps."
    )


def _write_note(maps: GroupMaps) -> str:
    params = ", ".join(f"{name}={value}" for name, value in maps.params.items())
    lines = [
        f"**Searchlight maps of {maps.n} subjects** ({quote_markdown(maps.grid.space)}): "
        f"{quote_markdown(params)}",
        "",
        f"Mean score: at most {maps.mean.max():.3f}, median {np.median(maps.mean):.3f}, in {len(maps.mean)} "
        "voxels.",
        "",
        "| test | null hypothesis | voxels with p <= .05 | smallest p |",
        "|---|---|---|---|",
        *(
            f"| {TESTS[name]} | {HYPOTHESES[name]} | {(p <= ALPHA).sum()} | {format_p(float(p.min()))} |"
            for name, p in corrected_p(maps).items()
        ),
        "",
        f"{OVER_VOXELS}, not over the maps of other configurations. {describe_within()}",
        "",
    ]
    if math.isfinite(maps.p_holm):
        lines += [
            f"Smallest p of the permutation of means after Holm's correction: {format_p(maps.p_holm)}.",
            "",
        ]
    lines += [f"- {quote_markdown(note)}" for note in maps.notes]
    lines += ["", *_tabulate_subjects(maps.subjects.to_dict("records"))]
    return "\n".join(lines)


def _tabulate_subjects(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    return [
        "| subject | highest score | smallest p, corrected | relabelled maps | voxels | run |",
        "|---|---|---|---|---|---|",
        *(
            f"| {quote_markdown(row['subject'])} | {row['max_score']:.3f} | {_format(row['smallest_p_fwe'])} "
            f"| {row['n_maps']} | {row['n_voxels']} | {row['run_id'][:8]} |"
            for row in rows
        ),
    ]


def _format(p: float) -> str:
    return format_p(p) if math.isfinite(p) else "-"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
