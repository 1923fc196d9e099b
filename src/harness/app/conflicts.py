"""Options that have no effect with others. They are refused, because whoever sets one expects an effect."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from harness.app.schema import InferenceSchema, RoiSchema, RunSchema, ScoringSchema
from harness.errors import UsageError

# Hydra's keys that have an effect only on several runs, and only on one run.
FOR_SEVERAL_RUNS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep")
FOR_ONE_RUN = ("hydra.run",)
OF_MAP_TESTS = ("statistic", "correction", "keep_maps")  # cluster_z shapes the table of peaks, too
SEARCHLIGHT = "harness.searchlight.settings.Searchlight"


def check_tracking(tracking: Mapping[str, Any], resume: bool | None = None) -> None:
    """Raise a UsageError if an option of tracking, or `resume`, has no effect, or a server has no address."""
    kind, uri, folder = tracking["kind"], tracking["uri"], tracking["folder"]
    if folder.startswith("~"):  # that of ~/ is expanded before Hydra sees it
        raise UsageError(
            f"tracking.folder={folder!r}: the home directory of another user is not expanded; expected, for "
            "example, tracking.folder=mlruns or tracking.folder=~/mlruns"
        )
    if uri == "" or (kind == "server" and not uri):
        raise UsageError(
            f"tracking.uri={uri!r} is not the address of a server; expected, for example, "
            "tracking=server tracking.uri=http://127.0.0.1:5000; tracking=local needs none"
        )
    if kind != "server" and uri is not None:
        raise UsageError(
            f"tracking.uri={uri!r} has no effect with tracking={kind}; "
            f"for a server type: tracking=server tracking.uri={uri}"
        )
    if kind == "off" and tracking["experiment"] is not None:
        raise UsageError(
            f"tracking.experiment={tracking['experiment']!r} has no effect with tracking=off, which stores "
            "no runs; choose tracking=local or tracking=server"
        )
    if kind == "off" and resume:
        raise UsageError(
            "resume=true has no effect with tracking=off, which stores no runs; choose tracking=local or "
            "tracking=server"
        )


def check_inference(inference: Mapping[str, Any]) -> None:
    """Raise a UsageError if an option of a test is set, but none is chosen."""
    usual = InferenceSchema()
    changed = [key for key, value in inference.items() if value != getattr(usual, key)]
    if inference["kind"] == "none" and changed:
        value = inference[changed[0]]
        typed = f"inference.{changed[0]}={str(value).lower() if isinstance(value, bool) else value}"
        raise UsageError(f"{typed} has no effect with inference=none; type inference=permutation {typed}")


def check_model(settings: Mapping[str, Any]) -> None:
    """Raise a UsageError if a model is requested that is stored nowhere, or needs more than images."""
    if not settings["model"]:
        return
    signal, target = settings["signal"], str(settings["estimator"].get("_target_"))
    reasons = {
        "tracking=off, which stores no runs": settings["tracking"]["kind"] == "off",
        "signal.average_blocks=true: a model is given images alone, without blocks": signal["average_blocks"],
        "confounds: a model is given images alone": signal["confounds"] or signal["confounds_file"],
        "engine=nilearn and estimator=dummy, whose guesses nilearn does not expose": (
            target.endswith(".DummyClassifier") and settings["engine"] == "nilearn"
        ),
    }
    for reason, applies in reasons.items():
        if applies:
            raise UsageError(f"model=true cannot be combined with {reason}; leave out model=true")


def check_searchlight(settings: Mapping[str, Any]) -> None:
    """Raise a UsageError if an option is set that has no effect on a searchlight."""
    if settings["analysis"].get("_target_") != SEARCHLIGHT:
        return
    inference, usual = settings["inference"], InferenceSchema()
    if settings["model"]:
        raise UsageError(
            "model=true cannot be combined with analysis=searchlight: thousands of spheres have no decoder "
            "of their own to export; leave out model=true"
        )
    reasons = {
        "stop_early": "the correction over voxels needs every relabelling in every voxel; leave it out",
        "maps": "the map is what is tested; leave it out",
        "processes": "type analysis.processes=N for the processes that share the spheres",
    }
    for key, reason in reasons.items():
        if inference[key] != getattr(usual, key):
            value = str(inference[key]).lower()
            raise UsageError(f"inference.{key}={value} has no effect with analysis=searchlight: {reason}")
    if inference["kind"] == "none":
        _check_map_test(settings["analysis"])
    percentile = settings["roi"]["screening_percentile"]
    if percentile != RoiSchema().screening_percentile:
        raise UsageError(
            f"roi.screening_percentile={percentile:g} has no effect with analysis=searchlight, whose spheres "
            "keep every voxel; leave it out"
        )
    scoring, plain = settings["scoring"], asdict(ScoringSchema())
    for key, value in plain.items():
        if scoring[key] != value:
            typed = str(scoring[key]).replace(" ", "").replace("'", "")
            raise UsageError(
                f"scoring.{key}={typed} has no effect with analysis=searchlight, which chooses nothing on a "
                "scored fold; analysis.scorer is the score of the map, analysis.statistic that of its test"
            )


def _check_map_test(analysis: Mapping[str, Any]) -> None:
    """Raise a UsageError if an option of the test of a map is set, but none is chosen."""
    from harness.searchlight.choices import Correction, Statistic
    from harness.searchlight.settings import Searchlight

    for key in OF_MAP_TESTS:
        usual = next(field.default for field in fields(Searchlight) if field.name == key)
        value = analysis.get(key, usual)
        # A value that does not exist is refused as such, when the searchlight is built.
        if value != usual and (isinstance(value, int) or value in [*Statistic, *Correction]):
            typed = f"analysis.{key}={value}"
            raise UsageError(f"{typed} has no effect with inference=none; type inference=permutation {typed}")


def check_launching(overrides: Sequence[str], multirun: bool) -> None:
    """Raise a UsageError if one of Hydra's keys has no effect on one run, or on several (`multirun`)."""
    keys = FOR_ONE_RUN if multirun else FOR_SEVERAL_RUNS
    for override in overrides:
        _check_form(override)
        typed = override.lstrip("+~").partition("=")[0]
        if any(typed == key or typed.startswith(f"{key}.") for key in keys):
            number, remedy = (
                ("several runs", "leave out -m") if multirun else ("one run", "-m launches several")
            )
            raise UsageError(f"{override!r} has no effect on {number}; leave it out, or {remedy}")


def _check_form(override: str) -> None:
    """Raise a UsageError for keys below a single value, and for a class without a name, which break Hydra."""
    key, _, value = override.lstrip("+~").partition("=")
    group, _, rest = key.partition(".")
    name, _, below = rest.partition(".")
    schema = next((item.default_factory for item in fields(RunSchema) if item.name == group), None)
    if below and is_dataclass(schema) and name in [item.name for item in fields(schema)]:
        raise UsageError(f"{override!r}: {group}.{name} has no key {below!r}; expected {group}.{name}=VALUE")
    if key == "contrast.conditions" and re.search(r"[{,]\s*(null|~|)\s*:", value):
        raise UsageError(
            f"{override!r}: a class has no name; expected, for example, "
            "contrast.conditions=[{animate:[face,cat]},{inanimate:[house,shoe]}]"
        )
