"""Parts of methods texts that runs of every analysis have: data, estimator, scheme, relabelling, software."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.methods_facts import MethodFacts, config_class, config_section, join_values, list_classes
from harness.report.methods_words import (
    DIVIDES_BLOCKS,
    DUMMIES,
    DUMMY,
    ESTIMATORS,
    FIXED_PENALTY,
    INNER_CHOICE,
    NILEARNS_OWN,
    PACKAGES,
    SCHEMES,
    ZSCORES,
)
from harness.report.report_page import write_words


def describe_recording(facts: MethodFacts) -> str:
    """Describe the data set, the subject, the repetition time and the voxels."""
    params = facts.params
    text = f"Data set {params.get('dataset', 'not known')}, subject {params.get('subject', 'not known')}"
    if params.get("dataset") == "simulated":
        text += " [simulated data, not a measurement of any brain]"
    voxels = " x ".join(f"{size:.3g}" for size in facts.voxel_sizes)
    details = [f"repetition time {facts.t_r:g} s"] if facts.t_r else []
    details += [f"voxels of {voxels} mm"] if voxels else []
    return f"{text} ({', '.join(details)})." if details else f"{text}."


def describe_region(facts: MethodFacts) -> str:
    """Describe the region that one decoder uses, and its screening."""
    params, config = facts.params, facts.config
    mask = config_section(config, "roi").get("mask", params.get("roi", "not known"))
    n_voxels = params.get("n_voxels", "an unknown number of")
    text = f"The decoder used the {n_voxels} voxels of the region {mask}"
    text += " that vary over the selected volumes and have finite values."
    percentile = config_section(config, "roi").get("screening_percentile")
    if percentile not in (None, 100):
        text += (
            f" Univariate screening (ANOVA on the training {{samples}} of each fold) keeps {percentile:g} % "
            "of the volume of a whole brain (MNI152); regions smaller than that keep all their voxels."
        )
    return text


def describe_signal(signal: Mapping[str, Any], standardisations: Mapping[str, str] = ZSCORES) -> str:
    """Describe the preprocessing of time courses in the order in which it is done.

    Parameters
    ----------
    standardisations : mapping of str to str
        The words of every value of ``signal.zscore``.
    """
    steps = []
    if signal.get("smoothing_fwhm"):
        steps.append(f"smoothed with a Gaussian kernel of {signal['smoothing_fwhm']:g} mm FWHM")
    if signal.get("detrend"):
        steps.append("linearly detrended within scanner runs")
    for key, word in (("high_pass", "high-pass"), ("low_pass", "low-pass")):
        if signal.get(key):
            steps.append(f"{word} filtered within scanner runs at {signal[key]:g} Hz (Butterworth)")
    if signal.get("confounds") or signal.get("confounds_file"):
        names = signal.get("confounds")
        what = ", ".join(map(str, names)) if names else "all columns of the confounds table"
        steps.append(f"regressed on confounds within scanner runs ({what})")
    text = (
        f"Volumes were {'; '.join(steps)}."
        if steps
        else "Images were used as provided: no smoothing, detrending, filtering or confound regression "
        "was applied."
    )
    lag, first, last = (signal.get(key) or 0 for key in ("lag", "trim_first", "trim_last"))
    text += (
        f" Labels were shifted by {lag} volumes for the haemodynamic delay."
        if lag
        else " Labels were not shifted for the haemodynamic delay."
    )
    if first or last:
        text += f" The first {first} and last {last} volumes of every block were left out."
    return f"{text} {standardisations.get(str(signal.get('zscore') or 'none'), '')}".strip()


def describe_classes(conditions: object, name: str) -> str:
    """Describe the classes of a contrast with their conditions; without any, by the name of the contrast."""
    classes = list_classes(conditions)
    if not classes:
        return write_words(name) or "not known"
    words = [
        name if list(map(str, group)) == [name] else f"{name} ({', '.join(map(str, group))})"
        for name, group in classes
    ]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def estimator_name(facts: MethodFacts) -> str:
    """Return the class that was fitted, without its package."""
    name = config_class(facts.config, "estimator")
    return NILEARNS_OWN.get(name, name) if engine_name(facts) == "nilearn" else name


def engine_name(facts: MethodFacts) -> str:
    """Return whose decoder was used."""
    return str(facts.config.get("engine") or facts.params.get("engine") or "")


def describe_estimator(facts: MethodFacts) -> str:
    """Describe the estimator with its penalty and its solver."""
    node, name = config_section(facts.config, "estimator"), estimator_name(facts)
    if name == DUMMY:
        return DUMMIES.get(str(node.get("strategy")), DUMMIES[""])
    words = ESTIMATORS.get(name, f"the estimator {name or facts.params.get('estimator', 'not known')}")
    values = {
        "penalty": str(node.get("penalty", "l2")).upper(),
        "loss": write_words(node.get("loss", "squared_hinge")),
        "solver": str(node.get("solver", "liblinear")),
    }
    for key, value in values.items():
        words = words.replace(f"{{{key}}}", value)
    for key, fixed in FIXED_PENALTY.items():
        if name in INNER_CHOICE and is_single(node.get(key)):
            words += f" with {fixed} = {join_values(node[key])}"
    return words


def describe_inner_choice(facts: MethodFacts) -> str:
    """Describe what the estimator chooses inside training sets; empty where it has one value or none."""
    node, name = config_section(facts.config, "estimator"), estimator_name(facts)
    if name not in INNER_CHOICE or any(is_single(node.get(key)) for key in FIXED_PENALTY):
        return ""
    text = INNER_CHOICE[name]
    for key in ("Cs", "alphas", "cv"):
        text = text.replace(f"{{{key}}}", join_values(node.get(key)))
    return text


def is_single(values: object) -> bool:
    """Return whether values of a parameter leave nothing to choose."""
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) == 1


def describe_scheme(facts: MethodFacts, keys: list[str]) -> str:
    """Describe the cross-validation; the references are added to `keys`."""
    node = config_section(facts.config, "cv")
    name = config_class(facts.config, "cv")
    words = SCHEMES.get(name, f"the cross-validation scheme {name or facts.params.get('cv', 'not known')}")
    if node.get("shuffle"):
        words = words.replace("with consecutive segments of the selected {samples}", "in random order")
        words += " (shuffled)" if name == "StratifiedKFold" else ""
    for key in ("n_splits", "n_volumes"):
        words = words.replace(f"{{{key}}}", str(node.get(key, "an unknown number of")))
    n = facts.params.get("n_folds")
    folds = "" if not n else f" ({n} {'fold' if n == '1' else 'folds'})"
    skipped = facts.params.get("n_folds_skipped", "0")
    text = f"Performance was estimated by {words}{folds}."
    if name == "LeaveOneGroupOut":
        keys.append("leave-run-out")
        text = f"{text[:-1]}, as Varoquaux et al. (2017) recommend."
    if name in DIVIDES_BLOCKS and not config_section(facts.config, "signal").get("average_blocks"):
        text += " Volumes of one stimulation block can be in both the training and the held-out volumes."
    return text if skipped in ("", "0") else f"{text} {skipped} folds that lacked a class were left out."


def describe_relabelling(settings: Mapping[str, Any]) -> str:
    """Describe what a relabelling exchanges."""
    if settings.get("null") == "partition":
        return (
            "conditions were exchanged between the classes, alike in all scanner runs, so that this division "
            "of the conditions is compared with other divisions"
        )
    if settings.get("relabel") == "order_preserving":
        return "the orders of the classes were exchanged between scanner runs"
    return (
        "the class labels of whole stimulation blocks of equal or similar length were exchanged within "
        "scanner runs"
    )


def describe_number(facts: MethodFacts, settings: Mapping[str, Any]) -> str:
    """Describe which relabellings were computed, and how many; the number includes the true labelling."""
    n, is_sequential = facts.n_relabellings, settings.get("stop_early")
    seed = f"seed {settings.get('seed', 0)}"
    if facts.inference_method == "enumerated":
        if not is_sequential:
            return f"all {n} distinct relabellings" if n else "all distinct relabellings"
        which = f"distinct relabellings in random order, {seed}"
    else:
        number = settings.get("n", "a number of")
        which = f"{'up to ' if is_sequential else ''}{number} random relabellings, {seed}"
    return f"{which}; {n - 1} were computed" if is_sequential and n else which


def describe_software(facts: MethodFacts, has_decoder: bool = True) -> str:
    """Describe the versions of the packages, the decoder of engine=nilearn if there is one, and the seed."""
    versions = [f"{name} {facts.versions[name]}" for name in PACKAGES if name in facts.versions]
    text = f"Software: {', '.join(versions) or 'versions not recorded'}."
    if has_decoder and engine_name(facts) == "nilearn":
        text += " Decoding was done by nilearn's Decoder."
    seed = facts.config.get("seed")
    return text if seed is None else f"{text} Seed: {seed}."
