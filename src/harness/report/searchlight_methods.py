"""The methods text of a searchlight, from its configuration and its record."""

from collections.abc import Mapping
from typing import Any

from harness.inference.corrections import format_p
from harness.report.methods_facts import MethodFacts, Methods, config_section, join_values
from harness.report.methods_parts import (
    describe_classes,
    describe_estimator,
    describe_inner_choice,
    describe_number,
    describe_recording,
    describe_relabelling,
    describe_scheme,
    describe_signal,
    describe_software,
    engine_name,
    estimator_name,
)
from harness.report.methods_references import REFERENCES
from harness.report.methods_words import DATASET_REFERENCES, ESTIMATOR_REFERENCES, ZSCORES
from harness.report.report_page import write_score, write_words
from harness.searchlight.choices import Correction, Statistic
from harness.searchlight.descriptions import describe_within

OWN = (
    "The training and the held-out {samples} of a fold were standardised (voxels with mean 0, SD 1), each by "
    "their own mean and SD."
)
STATISTICS = {
    Statistic.roc_auc: "area under the ROC curve",
    Statistic.decision_value: "difference between the mean decision values of the classes",
    Statistic.accuracy: "accuracy",
    Statistic.balanced_accuracy: "balanced accuracy",
}
MAXIMUM = (
    "p-values were corrected over voxels by the distribution of the largest z of the map (Nichols and Holmes "
    "2002)"
)


def write_searchlight_methods(facts: MethodFacts, record: Mapping[str, Any]) -> Methods:
    """Write the methods text of a searchlight, or of what the searchlights of a sweep share.

    Parameters
    ----------
    record : mapping of str to object
        Content of ``searchlight.json``; what it lacks is left out.
    """
    dataset = DATASET_REFERENCES.get(facts.params.get("dataset", ""), ())
    keys = ["cobidas", "nilearn", "scikit-learn", *dataset]
    signal = describe_signal(config_section(facts.config, "signal"), {**ZSCORES, "own": OWN})
    paragraphs = [
        f"{describe_recording(facts)} {signal}",
        f"{_describe_spheres(facts, record, keys)} {_describe_decoding(facts, keys)}",
        _describe_test(facts, keys),
        f"{describe_software(facts, has_decoder=False)} This description follows COBIDAS (Nichols et al. "
        "2017).",
    ]
    averages = config_section(facts.config, "signal").get("average_blocks")
    samples = "block averages" if averages else "volumes"
    missing = (
        "participants (number, age, sex, ethics approval and consent), task and stimuli, scanner, field "
        "strength and sequence",
        "preprocessing before these images: motion and slice-time correction, registration, exclusions",
        "whether radius, region and correction were chosen before the map was seen",
        *(() if facts.t_r else ("repetition time",)),
    )
    return Methods(
        tuple(text.replace("{samples}", samples) for text in paragraphs if text),
        tuple(REFERENCES[key] for key in dict.fromkeys(keys)),
        missing,
    )


def _describe_spheres(facts: MethodFacts, record: Mapping[str, Any], keys: list[str]) -> str:
    keys += ["searchlight", "searchlight-reading"]
    settings = config_section(facts.config, "analysis")
    region = config_section(facts.config, "roi").get("mask", facts.params.get("roi", "not known"))
    n = f"the {record['n_spheres']} voxels" if "n_spheres" in record else "the voxels"
    text = (
        f"A searchlight (Kriegeskorte et al. 2006) was moved over {n} of the region {region}: the voxels of "
        f"the mask {settings.get('mask', 'brain')} whose centres are at most {_number(settings, 'radius')} "
        "mm from its centre were decoded"
    )
    if sizes := record.get("sphere_sizes"):
        text += f" ({sizes['smallest']} to {sizes['largest']} voxels, median {sizes['median']:g})"
    text += ". Voxels that are constant over the selected {samples} or have values that are not finite were "
    text += f"left out, and so were spheres of fewer than {_number(settings, 'min_voxels')} voxels"
    if n_small := record.get("n_small"):
        text += f" ({n_small} centres)"
    return f"{text}. No voxels were screened."


def _describe_decoding(facts: MethodFacts, keys: list[str]) -> str:
    params, settings = facts.params, config_section(facts.config, "analysis")
    name = estimator_name(facts)
    keys += [key for known, key in ESTIMATOR_REFERENCES.items() if known == name]
    conditions = config_section(facts.config, "contrast").get("conditions")
    classes = describe_classes(conditions, params.get("contrast", ""))
    n = params.get("n_samples", "an unknown number of")
    text = f"In every sphere, the classes {classes} were decoded from {n} {{samples}} with "
    text += f"{describe_estimator(facts)}{_describe_parameter(facts)}. {describe_scheme(facts, keys)}"
    score = write_score(settings.get("scorer", "score"))
    text += f" The score of a sphere ({score}, mean over folds) was assigned to the voxel in its centre."
    if engine_name(facts) == "nilearn":
        text += " The spheres were decoded by nilearn's SearchLight."
    return text


def _describe_parameter(facts: MethodFacts) -> str:
    """Describe the penalty: the first value of a grid, or what the estimator chooses in training sets."""
    node, words = config_section(facts.config, "estimator"), []
    for key, values in (node.get("grid") or {}).items():
        options = next(iter(values.values()), ()) if isinstance(values, Mapping) else values
        first = next(iter(options), "not known") if isinstance(options, list | tuple) else options
        words.append(f"{key} = {join_values([first])}")
    if text := describe_inner_choice(facts):
        words.append(f"{text}, in every sphere, fold and labelling")
    return f" ({'; '.join(words)})" if words else ""


def _describe_test(facts: MethodFacts, keys: list[str]) -> str:
    settings = config_section(facts.config, "analysis")
    relabelled = config_section(facts.config, "inference")
    if relabelled.get("kind") != "permutation" or not facts.inference_method:
        return "No significance test of the map was made."
    keys += ["permutation", "maximum", "smallest-p"]
    statistic = str(settings.get("statistic", Statistic.roc_auc))
    words = STATISTICS[Statistic(statistic)] if statistic in list(Statistic) else write_words(statistic)
    text = (
        "The map was tested with a permutation test (Ojala and Garriga 2010): "
        f"{describe_relabelling(relabelled)} ({describe_number(facts, relabelled)}), the "
        "same relabelling in all spheres, and the analysis of "
        f"every sphere was repeated. The statistic ({words}, mean over folds) was standardised in every "
        f"sphere by its mean and SD over all relabellings, the true one included. {MAXIMUM}."
    )
    correction = str(settings.get("correction", Correction.maximum))
    if correction == Correction.tfce:
        keys.append("tfce")
        text += (
            " The map was thresholded by threshold-free cluster enhancement (Smith and Nichols 2009; exact "
            "integral over positive z, E = 0.5, H = 2, neighbours with common faces), corrected by the "
            "largest value of the map."
        )
    elif correction == Correction.cluster_size:
        text += (
            " The map was thresholded by the size of clusters of voxels with z above "
            f"{_number(settings, 'cluster_z')} (neighbours with common faces), corrected by the "
            "largest cluster of the map."
        )
    if facts.n_relabellings:
        text += f" The smallest possible p is {format_p(1 / facts.n_relabellings)} (Phipson and Smyth 2010)."
    return f"{text} {describe_within(correction).removesuffix('.')} (Etzel et al. 2013)."


def _number(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    return f"{value:g}" if isinstance(value, int | float) else "an unknown number of"
