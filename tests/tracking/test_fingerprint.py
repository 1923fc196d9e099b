"""What a fingerprint counts, and what it does not."""

import shutil
import tomllib
from pathlib import Path

import pytest

from harness.app.allowed_targets import list_classes
from harness.app.normalisation import normalise
from harness.datasets.images import digest_files
from harness.errors import DataError
from harness.samples.samples import load_samples, open_sources
from harness.tracking import provenance
from harness.tracking.fingerprint import fingerprint_run
from marks import first

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fingerprint(compose, tiny_subject):
    """Return a function that fingerprints the run of the tiny subject with some overrides."""
    data = tiny_subject()

    def fingerprint(*overrides, data_dir=data):
        spec = compose("dataset=haxby", f"++dataset.data_dir={data_dir}", "subject=1", *overrides)
        return fingerprint_spec(spec)

    fingerprint.data = data
    return fingerprint


def fingerprint_spec(spec):
    sources = open_sources(spec.dataset.load(1), spec.question.roi, spec.question.signal)
    digest = digest_files(sources.recording.bold)
    return fingerprint_run(normalise(spec.config), sources, digest, list_classes(spec.config))


@pytest.mark.parametrize(
    "override",
    first(
        1,
        [
            "figures=off",
            "cache=false",
            "resume=false",
            "tracking=off",
            "tracking.folder=elsewhere",
            "++cv.incomplete=refuse",  # the default
        ],
    ),
)
def test_storage_and_figure_options_are_not_counted(fingerprint, override):
    assert fingerprint(override) == fingerprint()


@pytest.mark.parametrize(
    "override",
    first(
        3,
        [
            "seed=1",
            "engine=nilearn",
            "contrast=cat_vs_house",
            "contrast.conditions=[cat,face]",
            "estimator=ridge",
            "estimator.grid.C=[1]",
            "cv=kfold5",
            "++cv.incomplete=skip",
            "scoring=accuracy",
            "scoring.inner_folds=3",
            "scoring.inner=runs",
            "signal=per_run",
            "signal.lag=1",
            "roi=brain",
            "roi.screening_percentile=10",
        ],
    ),
)
def test_configuration_is_counted(fingerprint, override):
    assert fingerprint(override) != fingerprint()


def test_data_count_by_their_content(fingerprint, tiny_subject, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(fingerprint.data, moved)
    assert fingerprint(data_dir=moved) == fingerprint()
    labels = moved / "haxby2001" / "subj1" / "labels.txt"
    labels.write_text(labels.read_text().replace("face 0", "house 0", 1))
    assert fingerprint(data_dir=moved) != fingerprint()
    assert fingerprint(data_dir=tiny_subject(seed=8)) != fingerprint()


def test_mask_counts_by_its_content(fingerprint):
    mask = fingerprint.data / "haxby2001" / "subj1" / "mask4_vt.nii.gz"
    assert fingerprint(f"roi.mask={mask}") == fingerprint()


def test_digests_are_those_of_the_samples(compose, tiny_subject):
    spec = compose("dataset=haxby", f"++dataset.data_dir={tiny_subject()}", "subject=1")
    recording, question = spec.dataset.load(1), spec.question
    samples = load_samples(recording, question.contrast, question.roi, question.signal)
    sources = open_sources(recording, question.roi, question.signal)
    assert samples.digests == {"bold": digest_files(recording.bold), **sources.digests}


def test_missing_image_is_named(compose, tiny_subject):
    data = tiny_subject()
    spec = compose("dataset=haxby", f"++dataset.data_dir={data}", "subject=1")
    (data / "haxby2001" / "subj1" / "bold.nii.gz").unlink()
    with pytest.raises(DataError, match=r"bold\.nii\.gz"):
        fingerprint_spec(spec)


def test_bids_data_count_by_their_content(compose, bids_study, tmp_path):
    root = bids_study()

    def fingerprint(root):
        return fingerprint_spec(compose("dataset=bids", f"dataset.root={root}", "subject=1", "roi=brain"))

    before = fingerprint(root)
    renamed = root.rename(tmp_path / "another name")
    assert fingerprint(renamed) == before
    events = next(renamed.rglob("sub-01*_events.tsv"))
    events.write_text(events.read_text().replace("face", "house", 1))
    assert fingerprint(renamed) != before


def test_code_is_counted(fingerprint, monkeypatch):
    before = fingerprint()
    monkeypatch.setattr("harness.tracking.fingerprint.digest_code", lambda: "another version")
    assert fingerprint() != before


def test_classes_of_the_user_count_by_their_source(fingerprint, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HARNESS_TARGETS", "own_estimator")
    source = tmp_path / "own_estimator.py"
    source.write_text("from sklearn.svm import LinearSVC\n\n\nclass Mine(LinearSVC):\n    pass\n")
    requested = ["++estimator._target_=own_estimator.Mine"]
    before = fingerprint(*requested)
    source.write_text(source.read_text() + "\n# another version\n")
    assert fingerprint(*requested) != before


def test_a_package_of_the_users_own_counts_as_a_whole(fingerprint, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HARNESS_TARGETS", "own_package")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "constants.py").write_text("K = 1\n")
    (package / "estimators.py").write_text(
        "from sklearn.svm import LinearSVC\n\nfrom own_package.constants import K\n\n\n"
        "class Mine(LinearSVC):\n    k = K\n"
    )
    requested = ["++estimator._target_=own_package.estimators.Mine"]
    before = fingerprint(*requested)
    (package / "constants.py").write_text("K = 2\n")
    assert fingerprint(*requested) != before


def test_every_package_that_computes_is_counted():
    """What decoding may import computes, but for the module of errors."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    packages = [name for layer in contract["layers"] for name in layer.split(" | ")]
    below = set(packages[packages.index("decoding") :])
    assert below - set(provenance.COMPUTING_MODULES) == {"errors"}


def clear_digests():
    provenance.hash_sources.cache_clear()
    provenance.digest_code.cache_clear()


def test_the_digest_of_the_code_is_that_of_its_files(monkeypatch, tmp_path):
    clear_digests()
    before = provenance.digest_code()
    copied = tmp_path / "harness"
    shutil.copytree(Path(provenance.__file__).parents[1], copied)
    monkeypatch.setattr(provenance, "__file__", str(copied / "tracking" / "provenance.py"))
    clear_digests()
    assert provenance.digest_code() == before
    (copied / "report" / "tables.py").write_text("# shows something else\n")
    clear_digests()
    assert provenance.digest_code() == before
    (copied / "solvers" / "newton.py").write_text("# computes something else\n")
    clear_digests()
    assert provenance.digest_code() != before
    clear_digests()
