"""The methods paragraph of a run, from its configuration: what COBIDAS asks for a decoding analysis.

References
----------
.. [1] Nichols et al. (2017), Best practices in data analysis and sharing in neuroimaging using MRI, Nature
   Neuroscience 20:299-303, doi:10.1038/nn.4500.
"""

from collections.abc import Mapping

from harness.inference.permutation import EXCEEDANCES
from harness.report.methods_facts import (
    MethodFacts,
    Methods,
    config_section,
    join_values,
    list_classes,
)
from harness.report.methods_parts import (
    describe_classes,
    describe_estimator,
    describe_inner_choice,
    describe_number,
    describe_recording,
    describe_region,
    describe_relabelling,
    describe_scheme,
    describe_signal,
    describe_software,
    estimator_name,
    is_single,
)
from harness.report.methods_references import REFERENCES
from harness.report.methods_words import DATASET_REFERENCES, DUMMY, ESTIMATOR_REFERENCES
from harness.report.report_page import write_score, write_words


def write_methods(facts: MethodFacts) -> Methods:
    """Write the methods text of a run, or of what the runs of a sweep share."""
    dataset = DATASET_REFERENCES.get(facts.params.get("dataset", ""), ())
    keys = ["cobidas", "nilearn", "scikit-learn", *dataset]
    paragraphs = [
        f"{describe_recording(facts)} {describe_region(facts)} "
        f"{describe_signal(config_section(facts.config, 'signal'))}",
        f"{_describe_decoding(facts, keys)} {_describe_scores(facts)}",
        _describe_inference(facts, keys),
        f"{describe_software(facts)} This description follows COBIDAS (Nichols et al. 2017).",
    ]
    averages = config_section(facts.config, "signal").get("average_blocks")
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


def _describe_decoding(facts: MethodFacts, keys: list[str]) -> str:
    params, config = facts.params, facts.config
    unit = "{samples}" if config_section(config, "signal").get("average_blocks") else "single {samples}"
    n = params.get("n_samples", "an unknown number of")
    blocks = f" from {facts.n_blocks} stimulation blocks" if facts.n_blocks else ""
    conditions = config_section(config, "contrast").get("conditions")
    classes = describe_classes(conditions, params.get("contrast", ""))
    name = estimator_name(facts)
    keys += [key for known, key in ESTIMATOR_REFERENCES.items() if known == name]
    text = f"The classes {classes} were decoded from {n} {unit}{blocks} with {describe_estimator(facts)}"
    if len(list_classes(conditions)) > 2 and name != DUMMY:
        text += ", one class against the rest"
    text += f". {_describe_choice(facts)} {describe_scheme(facts, keys)}"
    if name == DUMMY:
        return text
    keys.append("patterns")
    return (
        f"{text} Weights are the mean over the decoders of the folds; activation patterns were computed from "
        "them (Haufe et al. 2014)."
    )


def _describe_choice(facts: MethodFacts) -> str:
    """Describe the penalty, how it was chosen, and what test scores are of."""
    node, scoring = config_section(facts.config, "estimator"), config_section(facts.config, "scoring")
    name, grid = estimator_name(facts), node.get("grid") or {}
    if name == DUMMY:
        return "No parameter was chosen."
    if scoring.get("inner") == "runs":
        inner = "inner folds that each leave out one scanner run of the training {samples}"
    else:
        inner = f"{scoring.get('inner_folds', 'the')} stratified inner folds of the training {{samples}}"
    texts = []
    if text := describe_inner_choice(facts):
        texts.append(f"{text[0].upper()}{text[1:]}.")
    select = write_score(scoring.get("select", "a score"))
    is_chosen = False
    for key, values in grid.items():
        options = next(iter(values.values()), ()) if isinstance(values, Mapping) else values
        is_fixed = is_single(options)
        is_chosen |= not is_fixed
        shown = join_values(options)
        if isinstance(values, Mapping):
            shown += " times the smallest value with a non-zero weight"
        texts.append(
            f"The parameter {key} was {shown}."
            if is_fixed
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


def _describe_scores(facts: MethodFacts) -> str:
    scores = config_section(facts.config, "scoring").get("report") or ["accuracy"]
    names = {"roc_auc": "area under the ROC curve (multi-class: macro average of one class against the rest)"}
    shown = ", ".join(names.get(str(score), write_words(score)) for score in scores)
    if facts.params.get("n_folds") == "1":
        return f"Scores: {shown}; of one fold, so that they have no SD."
    return (
        f"Scores: {shown}; reported as mean and SD (n - 1) over folds. Folds are not independent, so that "
        "this SD is not a basis for a standard error."
    )


def _describe_inference(facts: MethodFacts, keys: list[str]) -> str:
    settings = config_section(facts.config, "inference")
    if settings.get("kind") != "permutation" or not facts.inference_method:
        return "No significance test of single runs was made."
    keys += ["permutation", "smallest-p"]
    text = (
        f"Significance was assessed with a permutation test (Ojala and Garriga 2010): "
        f"{describe_relabelling(settings)} ({describe_number(facts, settings)}), with the whole analysis "
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
    scoring = config_section(facts.config, "scoring")
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
