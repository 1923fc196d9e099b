"""What makes two runs the same, and what does not."""

import shutil
import tomllib
from pathlib import Path

import pytest

from harness.app.allowed_targets import list_classes
from harness.app.settings import normalise
from harness.errors import DataError
from harness.samples.cache import SampleCache
from harness.samples.samples import digest_sources, load_samples
from harness.tracking import provenance
from harness.tracking.fingerprint import identify

ROOT = Path(__file__).parents[2]


@pytest.fixture
def identity(compose, tiny_subject):
    """Return a function that identifies the run that some overrides ask for, of the tiny subject."""
    data = tiny_subject()

    def identify_run(*overrides, data_dir=data, cache=None):
        request = compose("dataset=haxby", f"++dataset.data_dir={data_dir}", "subject=1", *overrides)
        recording = request.dataset.load(1)
        return identify(
            normalise(request.asked),
            recording,
            request.roi,
            request.signal,
            list_classes(request.asked),
            cache,
        )

    identify_run.data = data
    return identify_run


@pytest.mark.parametrize(
    "override",
    [
        "figures=off",
        "cache=false",
        "resume=false",
        "tracking=off",
        "tracking.folder=elsewhere",
        "++cv.incomplete=refuse",  # the default
    ],
)
def test_where_things_go_and_how_they_look_does_not_count(identity, override):
    assert identity(override) == identity()


@pytest.mark.parametrize(
    "override",
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
        "signal=per_run",
        "signal.lag=1",
        "roi=brain",
        "roi.screening_percentile=10",
    ],
)
def test_what_is_asked_counts(identity, override):
    assert identity(override) != identity()


def test_the_data_count_by_what_they_hold(identity, tiny_subject, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(identity.data, moved)
    assert identity(data_dir=moved) == identity()
    labels = moved / "haxby2001" / "subj1" / "labels.txt"
    labels.write_text(labels.read_text().replace("face 0", "house 0", 1))
    assert identity(data_dir=moved) != identity()
    assert identity(data_dir=tiny_subject(seed=8)) != identity()


def test_a_mask_counts_by_what_it_holds(identity):
    mask = identity.data / "haxby2001" / "subj1" / "mask4_vt.nii.gz"
    assert identity(f"roi.mask={mask}") == identity()


def test_the_cache_knows_the_image_as_long_as_it_stays_as_it_was(identity, tmp_path, monkeypatch):
    cache = SampleCache(tmp_path / "kept")
    first = identity(cache=cache)
    assert first == identity()
    monkeypatch.setattr("harness.samples.cache.digest_files", lambda files: pytest.fail("read again"))
    assert identity(cache=cache) == first
    monkeypatch.undo()
    bold = identity.data / "haxby2001" / "subj1" / "bold.nii.gz"
    before = bold.read_bytes()
    try:
        bold.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert identity(cache=cache) != first
    finally:
        bold.write_bytes(before)


def test_digests_are_those_of_the_samples(compose, tiny_subject):
    request = compose("dataset=haxby", f"++dataset.data_dir={tiny_subject()}", "subject=1")
    recording = request.dataset.load(1)
    samples = load_samples(recording, request.contrast, request.roi, request.signal)
    assert digest_sources(recording, request.roi, request.signal) == samples.digests


def test_a_missing_image_is_named(compose, tiny_subject):
    data = tiny_subject()
    request = compose("dataset=haxby", f"++dataset.data_dir={data}", "subject=1")
    recording = request.dataset.load(1)
    (data / "haxby2001" / "subj1" / "bold.nii.gz").unlink()
    with pytest.raises(DataError, match=r"bold\.nii\.gz"):
        identify(normalise(request.asked), recording, request.roi, request.signal)


def test_the_code_counts(identity, monkeypatch):
    before = identity()
    monkeypatch.setattr("harness.tracking.fingerprint.digest_code", lambda: "another version")
    assert identity() != before


def test_a_class_of_the_users_own_counts_by_its_source(identity, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HARNESS_TARGETS", "own_estimator")
    source = tmp_path / "own_estimator.py"
    source.write_text("from sklearn.svm import LinearSVC\n\n\nclass Mine(LinearSVC):\n    pass\n")
    asked = ["++estimator._target_=own_estimator.Mine"]
    before = identity(*asked)
    source.write_text(source.read_text() + "\n# another version\n")
    assert identity(*asked) != before


def test_a_package_of_the_users_own_counts_as_a_whole(identity, tmp_path, monkeypatch):
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
    asked = ["++estimator._target_=own_package.estimators.Mine"]
    before = identity(*asked)
    (package / "constants.py").write_text("K = 2\n")
    assert identity(*asked) != before


def test_every_package_that_computes_is_counted():
    """What decoding may import computes, but for the module of errors."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    packages = [name for layer in contract["layers"] for name in layer.split(" | ")]
    below = set(packages[packages.index("decoding") :])
    assert below - set(provenance.COMPUTING_MODULES) == {"errors"}


def test_the_digest_of_the_code_is_that_of_its_files(monkeypatch, tmp_path):
    provenance.digest_code.cache_clear()
    before = provenance.digest_code()
    copied = tmp_path / "harness"
    shutil.copytree(Path(provenance.__file__).parents[1], copied)
    monkeypatch.setattr(provenance, "__file__", str(copied / "tracking" / "provenance.py"))
    provenance.digest_code.cache_clear()
    assert provenance.digest_code() == before
    (copied / "report" / "tables.py").write_text("# shows something else\n")
    provenance.digest_code.cache_clear()
    assert provenance.digest_code() == before
    (copied / "solvers" / "newton.py").write_text("# computes something else\n")
    provenance.digest_code.cache_clear()
    assert provenance.digest_code() != before
    provenance.digest_code.cache_clear()
