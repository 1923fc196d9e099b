"""The contract of the options: every file of conf/ composes, builds and does in a run what its name says."""

import re
import shlex
import tomllib
from pathlib import Path

import harness.conf
import nibabel as nib
import numpy as np
import pytest
import yaml

from harness.app.composition import compose_request
from harness.app.overrides import GROUPS as TYPED_GROUPS
from harness.app.run_spec import decode_request
from marks import first

pytestmark = pytest.mark.usefixtures("quick_composition")

CONF = Path(harness.conf.__path__[0])
DIRECTORIES = [path for path in sorted(CONF.rglob("*")) if path.is_dir() and path.name != "__pycache__"]
# Below conf/hydra are launchers, which belong to no run; the tests of joblib and of SLURM start them.
GROUPS = [path.name for path in DIRECTORIES if path.parent == CONF and path.name != "hydra"]
OPTIONS = {group: sorted(file.stem for file in (CONF / group).glob("*.yaml")) for group in GROUPS}
NEEDED = {
    "nifti": ["++dataset.bold=bold.nii.gz", "++dataset.labels=labels.tsv"],
    "bids": ["++dataset.root=/data"],
}
CONDITIONS = ("face", "cat", "house", "chair", "bottle", "scissors", "shoe", "scrambledpix")
BLOCK, N_RUNS = 4, 4
CHOOSE_C = {"svc", "svc_liblinear", "svc_l1", "logistic", "logistic_liblinear"}
SLOW = {"logistic_liblinear", "svc_l1"}


def mark_slow(group, option):
    """Leave two contrasts of 30, and the estimators that converge quickly, to the default suite."""
    is_slow = option not in ("face_vs_cat", "animate_vs_inanimate") if group == "contrast" else option in SLOW
    return [pytest.mark.slow] if is_slow else []


def parametrize(group):
    """Run a test on every option of a group."""
    options = [pytest.param(option, marks=mark_slow(group, option)) for option in OPTIONS[group]]
    return pytest.mark.parametrize("option", options)


@pytest.fixture(scope="module")
def planted(tiny_subject):
    """A subject in whose VT, of 12 voxels, every condition has one; the other masks hold 1, 2, ... voxels."""
    voxels = [tuple(int(i) for i in np.unravel_index(flat, (3, 2, 2))) for flat in range(len(CONDITIONS))]
    planted = dict(zip(CONDITIONS, voxels, strict=True))
    data = tiny_subject(shape=(4, 2, 2), conditions=CONDITIONS, block=BLOCK, n_runs=N_RUNS, planted=planted)
    home = data / "haxby2001" / "subj1"
    vt = nib.load(home / "mask4_vt.nii.gz")
    for size, name in enumerate(("8_face", "8_house", "8b_face", "8b_house"), start=1):
        mask = np.zeros(vt.shape, dtype=np.uint8)
        mask.flat[:size] = 1
        nib.save(nib.Nifti1Image(mask, vt.affine), home / f"mask{name}_vt.nii.gz")
    return data


@pytest.fixture
def decode(planted):
    """Return a function from overrides to the decoding of the planted subject."""

    def decode_planted(*overrides):
        base = ["dataset=haxby", f"dataset.data_dir={planted}", "subject=1"]
        base += [] if "scoring.inner=runs" in overrides else ["scoring.inner_folds=2"]
        return decode_request(compose_request([*base, *overrides]))

    return decode_planted


def test_every_directory_of_options_is_in_the_wheel():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    packages = tomllib.loads(pyproject.read_text())["tool"]["setuptools"]["packages"]
    assert {".".join(["harness.conf", *path.relative_to(CONF).parts]) for path in DIRECTORIES} == {
        name for name in packages if name.startswith("harness.conf.")
    }


def test_groups_of_the_command_line_and_of_the_schema_agree():
    assert set(TYPED_GROUPS) == set(GROUPS)


@pytest.mark.parametrize(
    ("group", "option"),
    first(
        3,
        [
            pytest.param(group, option, marks=mark_slow(group, option))
            for group, options in OPTIONS.items()
            for option in options
        ],
    ),
)
def test_every_option_begins_with_a_description_and_is_named_in_the_params(compose, group, option):
    first = (CONF / group / f"{option}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20
    request = compose(f"{group}={option}", *NEEDED.get(option, []))
    assert request.params[group] == option


@parametrize("contrast")
def test_every_contrast_has_the_volumes_of_its_conditions(decode, option):
    conditions = yaml.safe_load((CONF / "contrast" / f"{option}.yaml").read_text())["conditions"]
    sizes = {}
    for condition in conditions:
        sizes |= (
            {name: len(members) for name, members in condition.items()}
            if isinstance(condition, dict)
            else {condition: 1}
        )
    predictions = decode(f"contrast={option}", "estimator=dummy").predictions
    assert predictions["class"].value_counts().to_dict() == {
        name: size * BLOCK * N_RUNS for name, size in sizes.items()
    }


@parametrize("estimator")
def test_every_estimator_finds_planted_voxels_and_the_dummy_does_not(decode, option):
    decoding = decode(f"estimator={option}")
    accuracy = decoding.folds["test_accuracy"].mean()
    if option == "dummy":
        assert 0.2 < accuracy < 0.8
        assert len(decoding.weights) == 0
    else:
        assert accuracy > 0.9
        assert len(decoding.weights) > 0
    assert any(name.startswith("best_C") for name in decoding.folds) == (option in CHOOSE_C)


@parametrize("roi")
def test_every_region_has_the_voxels_of_its_mask(decode, option):
    n_voxels = {"vt": 12, "face": 1, "house": 2, "face_little": 3, "house_little": 4, "brain": 16}[option]
    assert decode(f"roi={option}", "estimator=dummy").samples.X.shape[1] == n_voxels


@pytest.mark.parametrize(
    ("option", "n_folds"), [("logo", N_RUNS), ("kfold5", 5), ("stratified5", 5), ("holdout30", 1)]
)
def test_every_scheme_has_its_number_of_folds(decode, option, n_folds):
    # Two classes of four conditions each, so that every fifth of the volumes holds both.
    classes = "[{a:[face,house,bottle,shoe]},{b:[cat,chair,scissors,scrambledpix]}]"
    assert len(decode(f"cv={option}", "estimator=lda", f"contrast.conditions={classes}").folds) == n_folds


@pytest.mark.parametrize("engine", ["harness", pytest.param("nilearn", marks=pytest.mark.slow)])
@parametrize("estimator")
def test_every_estimator_chooses_by_scanner_run(decode, option, engine):
    options = [f"estimator={option}", f"engine={engine}", "scoring.inner=runs"]
    accuracy = decode(*options).folds["test_accuracy"].mean()
    assert 0.2 < accuracy < 0.8 if option == "dummy" else accuracy > 0.9


@parametrize("cv")
def test_every_scheme_leaves_scanner_runs_out_inside_its_training_sets(decode, option):
    # holdout30 leaves too few volumes of two conditions.
    classes = "[{a:[face,house,bottle,shoe]},{b:[cat,chair,scissors,scrambledpix]}]"
    decoding = decode(f"cv={option}", f"contrast.conditions={classes}", "scoring.inner=runs")
    assert decoding.folds["test_accuracy"].mean() > 0.9


def test_the_number_of_folds_of_every_scheme_is_tested():
    assert set(OPTIONS["cv"]) == {"logo", "kfold5", "stratified5", "holdout30"}


@parametrize("signal")
def test_planted_voxels_are_found_under_every_standardisation(decode, option):
    assert decode(f"signal={option}", "estimator=lda").folds["test_accuracy"].mean() > 0.9


@parametrize("scoring")
def test_every_scoring_option_selects_by_its_name_and_reports_all_scores(decode, option):
    folds = decode(f"scoring={option}", "estimator=lda").folds
    assert {f"test_{name}" for name in OPTIONS["scoring"]} <= set(folds)
    assert f"selected_{option}" in folds


@pytest.mark.slow
def test_the_simulated_data_set_is_decoded_above_chance(compose, simulated_cache):
    decoding = decode_request(compose("estimator=lda", "cv=holdout30", "contrast=face_vs_house"))
    assert decoding.folds["test_accuracy"].mean() > 0.8


def read_options_table():
    """Return the rows of the table in docs/options.md: group, options and values."""
    page = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
    table = page.partition("| group | options |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.slow
def test_every_documented_spelling_of_an_option_composes():
    spellings = [
        spelling for row in read_options_table() for spelling in re.findall(r"`([^`]*\.[^`]*=[^`]*)`", row[2])
    ]
    assert len(spellings) > 12
    for spelling in spellings:
        words = shlex.split(spelling)
        if "-m" not in words:  # launchers belong to no run
            compose_request(words)


def test_the_documented_table_lists_every_option():
    rows = {row[0].strip("`"): row[1] for row in read_options_table()}
    assert set(GROUPS) <= set(rows)
    for group in set(GROUPS) - {"contrast"}:  # its 30 options are described
        assert set(re.findall(r"`(\w+)`", rows[group].split("(")[0])) <= set(OPTIONS[group]), group
        assert set(OPTIONS[group]) <= set(re.findall(r"`(\w+)`", rows[group])), group
