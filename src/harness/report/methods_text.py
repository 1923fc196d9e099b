"""The methods paragraph of a run, from its configuration: what COBIDAS asks for a decoding analysis.

References
----------
.. [1] Nichols et al. (2017), Best practices in data analysis and sharing in neuroimaging using MRI, Nature
   Neuroscience 20:299-303, doi:10.1038/nn.4500.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.inference.permutation import EXCEEDANCES
from harness.report.methods_references import REFERENCES
from harness.report.methods_words import (
    DATASET_REFERENCES,
    DIVIDES_BLOCKS,
    DUMMIES,
    DUMMY,
    ESTIMATOR_REFERENCES,
    ESTIMATORS,
    INNER_CHOICE,
    NILEARNS_OWN,
    PACKAGES,
    SCHEMES,
    ZSCORES,
)
from harness.report.report_page import write_score, write_words


@dataclass(frozen=True)
class Methods:
    """A methods text.

    Attributes
    ----------
    paragraphs : tuple of str
        Data and preprocessing; decoding; inference; software.
    references : tuple of str
        With DOI where the publication has one.
    missing : tuple of str
        What COBIDAS asks for and no configuration knows, to be added by the author.
    """

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class MethodFacts:
    """What a methods text is written from.

    Attributes
    ----------
    config : mapping of str to object
        The resolved configuration.
    params : mapping of str to str
        Choices, and ``n_samples``, ``n_voxels``, ``n_folds``. A parameter that varies over the runs is
        written as its values, separated by commas.
    versions : mapping of str to str
    n_blocks : int or None
        Stimulation blocks that were decoded.
    n_relabellings : int or None
        Relabellings that were computed, the true labelling included.
    inference_method : str
        ``enumerated`` or ``random``; empty for a run that was not tested, whatever its configuration.
    has_tested_maps : bool
        Whether activation patterns were tested.
    t_r : float or None
        Repetition time in seconds.
    voxel_sizes : tuple of float
        In mm; empty where unknown.
    """

    config: Mapping[str, Any]
    params: Mapping[str, str]
    versions: Mapping[str, str]
    n_blocks: int | None = None
    n_relabellings: int | None = None
    inference_method: str = ""
    has_tested_maps: bool = False
    t_r: float | None = None
    voxel_sizes: tuple[float, ...] = ()


def write_methods(facts: MethodFacts) -> Methods:
    """Write the methods text of a run, or of what the runs of a sweep share."""
    dataset = DATASET_REFERENCES.get(facts.params.get("dataset", ""), ())
    keys = ["cobidas", "nilearn", "scikit-learn", *dataset]
    paragraphs = [
        _describe_data(facts),
        f"{_describe_decoding(facts, keys)} {_describe_scores(facts)}",
        _describe_inference(facts, keys),
        f"{_describe_software(facts)} This description follows COBIDAS (Nichols et al. 2017).",
    ]
    averages = _section(facts.config, "signal").get("average_blocks")
    samples = "block averages" if averages else "volumes"
    paragraphs = [text.replace("{samples}", samples) for text in paragraphs]
    missing = (
        "participants (number, age, sex, ethics approval and consent), task and stimuli, scanner, field "
        "strength and sequence",
        "preprocessing before these images: motion and slice-time correction, registration, exclusions",
        "whether the region was defined independently of these data (otherwise the analysis is circular)",
        *(() if facts.t_r else ("repetition time",)),
    )
    cited = tuple(REFERENCES[key] for key in dict.fromkeys(keys))
    return Methods(tuple(filter(None, paragraphs)), cited, missing)


def list_class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes of a configuration; none where it names none."""
    return tuple(name for name, _ in _list_classes(_section(config, "contrast").get("conditions")))


def _describe_data(facts: MethodFacts) -> str:
    params, config = facts.params, facts.config
    text = f"Data set {params.get('dataset', 'not known')}, subject {params.get('subject', 'not known')}"
    if params.get("dataset") == "simulated":
        text += " [simulated data, not a measurement of any brain]"
    voxels = " x ".join(f"{size:.3g}" for size in facts.voxel_sizes)
    details = [f"repetition time {facts.t_r:g} s"] if facts.t_r else []
    details += [f"voxels of {voxels} mm"] if voxels else []
    text += f" ({', '.join(details)})." if details else "."
    mask = _section(config, "roi").get("mask", params.get("roi", "not known"))
    n_voxels = params.get("n_voxels", "an unknown number of")
    text += f" The decoder used the {n_voxels} voxels of the region {mask}"
    text += " that vary over the selected volumes and have finite values."
    percentile = _section(config, "roi").get("screening_percentile")
    if percentile not in (None, 100):
        text += (
            f" Univariate screening (ANOVA on the training {{samples}} of each fold) keeps {percentile:g} % "
            "of the volume of a whole brain (MNI152); regions smaller than that keep all their voxels."
        )
    return f"{text} {_describe_signal(_section(config, 'signal'))}"


def _describe_signal(signal: Mapping[str, Any]) -> str:
    """Describe the preprocessing of time courses in the order in which it is done."""
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
    return f"{text} {ZSCORES.get(str(signal.get('zscore') or 'none'), '')}".strip()


def _describe_decoding(facts: MethodFacts, keys: list[str]) -> str:
    params, config = facts.params, facts.config
    unit = "{samples}" if _section(config, "signal").get("average_blocks") else "single {samples}"
    n = params.get("n_samples", "an unknown number of")
    blocks = f" from {facts.n_blocks} stimulation blocks" if facts.n_blocks else ""
    conditions = _section(config, "contrast").get("conditions")
    classes = _describe_classes(conditions, params.get("contrast", ""))
    name = _estimator_name(facts)
    keys += [key for known, key in ESTIMATOR_REFERENCES.items() if known == name]
    text = f"The classes {classes} were decoded from {n} {unit}{blocks} with {_describe_estimator(facts)}"
    if len(_list_classes(conditions)) > 2 and name != DUMMY:
        text += ", one class against the rest"
    text += f". {_describe_choice(facts)} {_describe_scheme(facts, keys)}"
    if name == DUMMY:
        return text
    keys.append("patterns")
    return (
        f"{text} Weights are the mean over the decoders of the folds; activation patterns were computed from "
        "them (Haufe et al. 2014)."
    )


def _estimator_name(facts: MethodFacts) -> str:
    """Return the class that was fitted, without its package."""
    name = _class_name(facts.config, "estimator")
    return NILEARNS_OWN.get(name, name) if _engine(facts) == "nilearn" else name


def _engine(facts: MethodFacts) -> str:
    return str(facts.config.get("engine") or facts.params.get("engine") or "")


def _describe_estimator(facts: MethodFacts) -> str:
    node, name = _section(facts.config, "estimator"), _estimator_name(facts)
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
    return words


def _describe_choice(facts: MethodFacts) -> str:
    """Describe the penalty, how it was chosen, and what test scores are of."""
    node, scoring = _section(facts.config, "estimator"), _section(facts.config, "scoring")
    name, grid = _estimator_name(facts), node.get("grid") or {}
    if name == DUMMY:
        return "No parameter was chosen."
    if scoring.get("inner") == "runs":
        inner = "inner folds that each leave out one scanner run of the training {samples}"
    else:
        inner = f"{scoring.get('inner_folds', 'the')} stratified inner folds of the training {{samples}}"
    texts = []
    if name in INNER_CHOICE:
        text = INNER_CHOICE[name]
        for key in ("Cs", "alphas", "cv"):
            text = text.replace(f"{{{key}}}", _join(node.get(key)))
        texts.append(f"{text[0].upper()}{text[1:]}.")
    select = write_score(scoring.get("select", "a score"))
    is_chosen = False
    for key, values in grid.items():
        options = next(iter(values.values()), ()) if isinstance(values, Mapping) else values
        is_single = isinstance(options, Sequence) and not isinstance(options, str) and len(options) == 1
        is_chosen |= not is_single
        shown = _join(options)
        if isinstance(values, Mapping):
            shown += " times the smallest value with a non-zero weight"
        texts.append(
            f"The parameter {key} was {shown}."
            if is_single
            else f"The parameter {key} was chosen from {shown} by {select}."
        )
    if not texts:
        texts = ["It has no penalty that was chosen from the data."]
    texts.append(f"Test scores are from the mean of the decoders of {inner}")
    if not is_chosen:
        return f"{' '.join(texts)}, without the held-out {{samples}}."
    return (
        f"{' '.join(texts)}, whose parameters were chosen without the held-out {{samples}}; selected scores "
        "are from parameters chosen on the scored fold itself and are optimistic."
    )


def _describe_scheme(facts: MethodFacts, keys: list[str]) -> str:
    node = _section(facts.config, "cv")
    name = _class_name(facts.config, "cv")
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
    if name in DIVIDES_BLOCKS and not _section(facts.config, "signal").get("average_blocks"):
        text += " Volumes of one stimulation block can be in both the training and the held-out volumes."
    return text if skipped in ("", "0") else f"{text} {skipped} folds that lacked a class were left out."


def _describe_scores(facts: MethodFacts) -> str:
    scores = _section(facts.config, "scoring").get("report") or ["accuracy"]
    names = {"roc_auc": "area under the ROC curve (multi-class: macro average of one class against the rest)"}
    shown = ", ".join(names.get(str(score), write_words(score)) for score in scores)
    if facts.params.get("n_folds") == "1":
        return f"Scores: {shown}; of one fold, so that they have no SD."
    return (
        f"Scores: {shown}; reported as mean and SD (n - 1) over folds. Folds are not independent, so that "
        "this SD is not a basis for a standard error."
    )


def _describe_inference(facts: MethodFacts, keys: list[str]) -> str:
    settings = _section(facts.config, "inference")
    if settings.get("kind") != "permutation" or not facts.inference_method:
        return "No significance test of single runs was made."
    keys += ["permutation", "smallest-p"]
    text = (
        f"Significance was assessed with a permutation test (Ojala and Garriga 2010): "
        f"{_describe_relabelling(settings)} ({_describe_number(facts, settings)}), with the whole analysis "
        "repeated for each, including the choice of parameters. "
    )
    fixed = (
        "p = (b + 1) / (m + 1) for b of m other relabellings with a mean score at least as high, one-sided "
        "(Phipson and Smyth 2010)."
    )
    if settings.get("stop_early"):
        keys.append("sequential")
        text += (
            "The test was sequential (Besag and Clifford 1991): it ended once every score was reached by "
            f"{EXCEEDANCES} relabellings, or all were computed. p = {EXCEEDANCES} / l where the "
            f"{EXCEEDANCES}th relabelling with a mean score at least as high was the l-th, one-sided; for a "
            f"score that fewer reached, {fixed}"
        )
    else:
        text += fixed
    scoring = _section(facts.config, "scoring")
    select, report = scoring.get("select", "the first score"), scoring.get("report") or ()
    primary = write_score(report[0] if report and select not in report else select)
    text += (
        f" The test score of {primary} is the primary one; p-values of other scores are not corrected for "
        "their number."
    )
    if facts.has_tested_maps:
        keys.append("maximum")
        text += (
            " Activation patterns were tested voxel by voxel with the same relabellings, corrected over "
            "voxels by the maximum statistic (two-sided; Nichols and Holmes 2002)."
        )
    return text


def _describe_relabelling(settings: Mapping[str, Any]) -> str:
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


def _describe_number(facts: MethodFacts, settings: Mapping[str, Any]) -> str:
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


def _describe_software(facts: MethodFacts) -> str:
    versions = [f"{name} {facts.versions[name]}" for name in PACKAGES if name in facts.versions]
    text = f"Software: {', '.join(versions) or 'versions not recorded'}."
    if _engine(facts) == "nilearn":
        text += " Decoding was done by nilearn's Decoder."
    seed = facts.config.get("seed")
    return text if seed is None else f"{text} Seed: {seed}."


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a group of the configuration; empty where it is absent or not a group."""
    node = config.get(name)
    return node if isinstance(node, Mapping) else {}


def _class_name(config: Mapping[str, Any], group: str) -> str:
    return str(_section(config, group).get("_target_", "")).rpartition(".")[2]


def _list_classes(conditions: object) -> list[tuple[str, Sequence[object]]]:
    """Return the classes of a contrast with their conditions."""
    classes: list[tuple[str, Sequence[object]]] = []
    for item in conditions if isinstance(conditions, list) else []:
        if isinstance(item, Mapping):
            classes += [(str(name), list(group)) for name, group in item.items()]
        else:
            classes.append((str(item), [item]))
    return classes


def _describe_classes(conditions: object, name: str) -> str:
    classes = _list_classes(conditions)
    if not classes:
        return write_words(name) or "not known"
    words = [
        name if list(map(str, group)) == [name] else f"{name} ({', '.join(map(str, group))})"
        for name, group in classes
    ]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _join(values: object) -> str:
    if isinstance(values, Sequence) and not isinstance(values, str):
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return str(values)
