"""The methods paragraph of a run, from its configuration: what COBIDAS asks for a decoding analysis.

References
----------
.. [1] Nichols et al. (2017), Best practices in data analysis and sharing in neuroimaging using MRI, Nature
   Neuroscience 20:299-303, doi:10.1038/nn.4500.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.methods_references import REFERENCES
from harness.report.report_page import write_score, write_words

# Words of a class by its name without package; {grid} is the description of its grid.
ESTIMATORS = {
    "ExactLinearSVC": "a linear support vector machine (L2 penalty, squared hinge loss, solved to its "
    "optimum)",
    "LinearSVC": "a linear support vector machine (liblinear, {penalty} penalty, squared hinge loss)",
    "ExactLogisticRegressionCV": "L2-penalised logistic regression (solved to its optimum)",
    "LogisticRegressionCV": "L2-penalised logistic regression (liblinear)",
    "ExactRidgeClassifierCV": "a ridge classifier",
    "ExactLDA": "linear discriminant analysis with Ledoit-Wolf shrinkage of the covariance",
    "DummyClassifier": "a dummy classifier, which predicts random classes in the proportions of the training "
    "volumes and does not use the images",
}
INNER_CHOICE = {
    "ExactLogisticRegressionCV": "C was chosen from {Cs} inside the training volumes by stratified {cv}-fold "
    "cross-validation of the log-loss",
    "LogisticRegressionCV": "C was chosen from {Cs} inside the training volumes by stratified {cv}-fold "
    "cross-validation of the log-loss",
    "ExactRidgeClassifierCV": "the penalty was chosen from {alphas} inside the training volumes by exact "
    "leave-one-out",
}
SCHEMES = {
    "LeaveOneGroupOut": "leave-one-scanner-run-out cross-validation",
    "KFold": "{n_splits}-fold cross-validation with consecutive segments of the selected volumes",
    "StratifiedKFold": "stratified {n_splits}-fold cross-validation; volumes of one block are in both the "
    "training and the held-out volumes",
    "HoldOutLast": "a single split that held out the last {n_volumes} selected volumes",
}
ZSCORES = {
    "own": "Voxels were standardised (mean 0, SD 1) over all selected volumes before they were divided into "
    "folds; the held-out volumes of a fold were standardised by their own mean and SD when predicted, as in "
    "nilearn's Decoder.",
    "run": "Voxels were standardised (mean 0, SD 1) within every scanner run over all of its volumes, "
    "before volumes were selected.",
    "train": "Voxels were standardised with the mean and SD of the training volumes of every fold, "
    "which were applied to the held-out volumes.",
    "none": "Voxels were not standardised.",
}
PACKAGES = ("harness", "python", "nilearn", "scikit-learn", "numpy", "scipy", "nibabel", "pandas")
ESTIMATOR_REFERENCES = {
    "LinearSVC": "liblinear",
    "LogisticRegressionCV": "liblinear",
    "ExactLDA": "shrinkage",
}
DATASET_REFERENCES = {"haxby": ("haxby",)}


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
    n_relabellings : float or None
    inference_method : str
        ``enumerated`` or ``random``.
    t_r : float or None
        Repetition time in seconds.
    voxel_sizes : tuple of float
        In mm; empty where unknown.
    """

    config: Mapping[str, Any]
    params: Mapping[str, str]
    versions: Mapping[str, str]
    n_blocks: int | None = None
    n_relabellings: float | None = None
    inference_method: str = ""
    t_r: float | None = None
    voxel_sizes: tuple[float, ...] = ()


def write_methods(facts: MethodFacts) -> Methods:
    """Write the methods text of a run, or of what the runs of a sweep share."""
    keys = [
        "cobidas",
        "nilearn",
        "scikit-learn",
        *DATASET_REFERENCES.get(facts.params.get("dataset", ""), ()),
    ]
    keys += [
        key for name, key in ESTIMATOR_REFERENCES.items() if name == _class_name(facts.config, "estimator")
    ]
    keys += ["leave-run-out", "patterns", "design"]
    paragraphs = [
        _describe_data(facts),
        f"{_describe_decoding(facts)} {_describe_scores(facts)}",
        _describe_inference(facts, keys),
        _describe_software(facts),
    ]
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
            f" Univariate screening (ANOVA on the training volumes of each fold) keeps {percentile:g} % "
            "of the "
            "volume of a whole brain (MNI152); regions smaller than that keep all their voxels."
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


def _describe_decoding(facts: MethodFacts) -> str:
    params, config = facts.params, facts.config
    signal = _section(config, "signal")
    unit = "block averages" if signal.get("average_blocks") else "single volumes"
    n = params.get("n_samples", "an unknown number of")
    blocks = f" from {facts.n_blocks} stimulation blocks" if facts.n_blocks else ""
    classes = _describe_classes(_section(config, "contrast").get("conditions"), params.get("contrast", ""))
    node = _section(config, "estimator")
    name = _class_name(config, "estimator")
    words = ESTIMATORS.get(name, f"the estimator {name or params.get('estimator', 'not known')}")
    words = words.replace("{penalty}", str(node.get("penalty", "l2")).upper())
    text = f"The classes {classes} were decoded from {n} {unit}{blocks} with {words}"
    n_classes = len(_list_classes(_section(config, "contrast").get("conditions")))
    if n_classes > 2 and name != "DummyClassifier":
        text += ", one class against the rest"
    text += "."
    choice = _describe_choice(name, node, _section(config, "scoring"))
    return f"{text} {choice} {_describe_scheme(facts)}"


def _describe_choice(name: str, node: Mapping[str, Any], scoring: Mapping[str, Any]) -> str:
    """Describe the penalty and how it was chosen."""
    if name in INNER_CHOICE:
        values = {key: _join(node.get(key)) for key in ("Cs", "alphas", "cv")}
        text = INNER_CHOICE[name]
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        return f"{text[0].upper()}{text[1:]}."
    grid = node.get("grid") or {}
    if not grid:
        return "It has no penalty that was chosen from the data."
    select = write_score(scoring.get("select", "a score"))
    texts = []
    for key, values in grid.items():
        shown = _join(values)
        if isinstance(values, Mapping):
            shown = (
                f"{_join(next(iter(values.values()), ''))} times the smallest value with a non-zero weight"
            )
        one = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == 1
        texts.append(f"{key} was {shown}" if one else f"{key} was chosen from {shown} by {select}")
    if scoring.get("inner") == "runs":
        inner = "leaving out scanner runs of the training volumes"
    else:
        inner = (
            f"stratified {scoring.get('inner_folds', 'k')}-fold cross-validation inside the training volumes"
        )
    text = "; ".join(texts)
    return (
        f"The parameter {text}. Test scores are from parameters chosen without the held-out volumes "
        f"({inner}); "
        "selected scores are from parameters chosen on the scored fold itself and are optimistic."
    )


def _describe_scheme(facts: MethodFacts) -> str:
    node = _section(facts.config, "cv")
    name = _class_name(facts.config, "cv")
    words = SCHEMES.get(name, f"the cross-validation scheme {name or facts.params.get('cv', 'not known')}")
    for key in ("n_splits", "n_volumes"):
        words = words.replace(f"{{{key}}}", str(node.get(key, "an unknown number of")))
    n = facts.params.get("n_folds")
    folds = "" if not n else f" ({n} {'fold' if n == '1' else 'folds'})"
    skipped = facts.params.get("n_folds_skipped", "0")
    text = f"Performance was estimated by {words}{folds}."
    return text if skipped in ("", "0") else f"{text} {skipped} folds that lacked a class were left out."


def _describe_scores(facts: MethodFacts) -> str:
    scores = _section(facts.config, "scoring").get("report") or ["accuracy"]
    names = {"roc_auc": "area under the ROC curve (multi-class: macro average of one class against the rest)"}
    shown = ", ".join(names.get(str(score), write_words(score)) for score in scores)
    return (
        f"Scores: {shown}; reported as mean and SD (n - 1) over folds. Folds are not independent, so that "
        "this SD is not a basis for a standard error."
    )


def _describe_inference(facts: MethodFacts, keys: list[str]) -> str:
    settings = _section(facts.config, "inference")
    if settings.get("kind") != "permutation":
        return "No significance test of single runs was made."
    keys += ["permutation", "smallest-p"]
    n = facts.n_relabellings
    if facts.inference_method == "enumerated" and n:
        which = f"all {n:.0f} distinct relabellings"
    else:
        which = f"{settings.get('n', 'a number of')} random relabellings, seed {settings.get('seed', 0)}"
    unit = (
        "exchanging the orders of the classes between scanner runs"
        if settings.get("relabel") == "order_preserving"
        else "exchanging the class labels of whole stimulation blocks within scanner runs"
    )
    text = (
        f"Significance was assessed with a permutation test: {unit} ({which}), with the whole analysis "
        "repeated "
        "for each, including the choice of parameters. p = (b + 1) / (m + 1) for b of m other "
        "relabellings with "
        "a mean score at least as high, one-sided."
    )
    primary = write_score(_section(facts.config, "scoring").get("select", "the first score"))
    text += (
        f" The test score of {primary} is the primary one; p-values of other scores are not corrected for "
        "their number."
    )
    if settings.get("maps"):
        text += (
            " Activation patterns were tested voxel by voxel with the same relabellings, corrected over "
            "voxels "
            "by the maximum statistic (two-sided)."
        )
    return text


def _describe_software(facts: MethodFacts) -> str:
    versions = [f"{name} {facts.versions[name]}" for name in PACKAGES if name in facts.versions]
    text = f"Software: {', '.join(versions) or 'versions not recorded'}."
    engine = facts.config.get("engine") or facts.params.get("engine")
    if engine == "nilearn":
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
