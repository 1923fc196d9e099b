"""What a configuration may build: public classes of trusted packages, without arguments that run code."""

import importlib
import inspect
import pkgutil
import re
import warnings

import nilearn
import pytest
import sklearn
from sklearn.utils.discovery import all_estimators

from harness.app.allowed_targets import (
    ALLOWED_TARGETS,
    REFUSED_ARGUMENTS,
    import_allowed_class,
    list_arguments,
)
from harness.app.composition import compose_request
from harness.errors import UsageError
from marks import first

pytestmark = pytest.mark.usefixtures("quick_composition")

SVC = "{_target_:sklearn.svm.LinearSVC}"
PIPELINE = "{_target_:sklearn.pipeline.Pipeline,steps:[[svc," + SVC + "]],memory:cached}"
# Arguments of classes that are documented with a word for files, and read no pickles.
HARMLESS = {
    "mask": "nilearn's decoders and maskers: an image, which nibabel reads",
    "mask_img": "likewise",
    "lut": "nilearn's maskers of labels: a table, which pandas reads",
    "n_jobs": "processes, by joblib",
}


def list_classes():
    """Return every class of scikit-learn and nilearn that has the method fit or split."""
    found = {kind for _, kind in all_estimators()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in (sklearn.model_selection, nilearn):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if re.search(r"tests|conftest|estimator_checks", module.name):
                    continue
                for kind in vars(importlib.import_module(module.name)).values():
                    if inspect.isclass(kind) and kind.__module__.startswith(("sklearn.", "nilearn.")):
                        found.add(kind)
    return sorted(
        (kind for kind in found if hasattr(kind, "fit") or hasattr(kind, "split")), key=lambda kind: str(kind)
    )


def describe_arguments(kind):
    """Return the paragraph on every argument in the documentation of a class."""
    documentation = inspect.getdoc(kind) or ""
    sections = re.split(r"\n(?=\w+\n-{3,})", documentation)
    parameters = next((part for part in sections if part.startswith("Parameters\n")), "")
    paragraphs = {}
    for paragraph in re.split(r"\n(?=\S)", parameters):
        names = paragraph.partition(":")[0]
        for name in re.findall(r"\w+", names):
            paragraphs[name] = paragraph
    return paragraphs


@pytest.mark.slow
def test_no_argument_of_a_class_that_may_be_built_names_a_directory_of_pickles():
    classes = list_classes()
    assert len(classes) > 200
    seen = set()
    for kind in classes:
        for name, text in describe_arguments(kind).items():
            if name in list_arguments(kind) and re.search(r"director|folder|pickle|joblib\.Memory", text):
                seen.add(name)
    assert "memory" in seen
    assert seen <= {*REFUSED_ARGUMENTS, *HARMLESS}
    for kind in classes:
        caching = {name for name in list_arguments(kind) if re.search("memory|cache_?dir", name)}
        assert caching <= {*REFUSED_ARGUMENTS, "minimize_memory"}, kind  # keeps less of a model


@pytest.mark.parametrize(
    "kind",
    first(2, [kind for _, kind in all_estimators() if "memory" in list_arguments(kind)]),
    ids=lambda kind: kind.__name__,
)
def test_memory_is_refused_by_every_class_that_has_it(kind):
    target = f"estimator._target_={kind.__module__}.{kind.__qualname__}"
    with pytest.raises(
        UsageError, match=r"estimator\.memory='cached' is refused: joblib's cache loads pickles"
    ):
        compose_request(["estimator=lda", target, "estimator.memory=cached"])


@pytest.mark.parametrize(
    "words",
    [
        [f"estimator.class_weight={PIPELINE}"],
        [f"estimator.class_weight=[[a,{PIPELINE}]]"],
        [f"estimator.class_weight={{a:{{b:{PIPELINE}}}}}"],
        [
            "estimator._target_=sklearn.pipeline.Pipeline",
            f"estimator.steps=[[svc,{SVC}]]",
            "estimator.memory=x",
        ],
        ["estimator._target_=sklearn.pipeline.Pipeline", f"estimator.steps=[[p,{PIPELINE}]]"],
        ["estimator._target_=sklearn.pipeline.Pipeline", "estimator.grid.memory=[x]"],
        [
            "estimator._target_=sklearn.model_selection.GridSearchCV",
            f"estimator.estimator={SVC}",
            "estimator.param_grid={p__memory:[x]}",
        ],
        [
            "estimator._target_=sklearn.model_selection.GridSearchCV",
            f"estimator.estimator={SVC}",
            "estimator.param_grid=[{memory:[x]}]",
        ],
    ],
    ids=lambda words: words[-1][:60],
)
def test_memory_is_refused_at_any_depth(words):
    with pytest.raises(UsageError, match=r"memory=.* is refused"):
        compose_request(["estimator=lda", "estimator._target_=sklearn.svm.LinearSVC", *words])


@pytest.mark.parametrize(
    "key",
    [
        "_partial_",
        "_args_",
        *(pytest.param(key, marks=pytest.mark.slow) for key in ("_recursive_", "_convert_")),
    ],
)
@pytest.mark.parametrize(
    "place", ["estimator.{}=1", "estimator.cv={{_target_:sklearn.model_selection.KFold,{}:1}}"]
)
def test_hydras_own_keys_are_refused_at_any_depth(key, place):
    with pytest.raises(UsageError, match=rf"{key} is not an argument"):
        compose_request(["estimator=logistic_liblinear", place.format(key)])


@pytest.mark.parametrize("n_backslashes", first(1, [1, 3, 5]))
def test_values_are_not_resolved_a_second_time(n_backslashes, tmp_path, monkeypatch):
    """An escaped interpolation is text: resolved again it would name any function, past the check."""
    monkeypatch.chdir(tmp_path)
    code = "\\" * n_backslashes + "${oc.create:{_target_:os.mkdir,path:made}}"
    with pytest.raises(UsageError):
        compose_request(["estimator=svc_liblinear", f"estimator.class_weight='{code}'"])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "target",
    [
        "harness.samples.cache.SampleCache",
        "harness.datasets.simulated.Simulated",
        "sklearn.utils.parallel.Parallel",
        "sklearn.gaussian_process.kernels.RBF",
    ],
)
def test_only_estimators_and_schemes_are_built_within_an_object(target):
    with pytest.raises(UsageError, match="has no method 'fit' or 'split'"):
        compose_request(["estimator=svc_liblinear", f"estimator.class_weight={{_target_:{target}}}"])


def test_schemes_and_estimators_within_an_object_are_built():
    scheme = "{_target_:sklearn.model_selection.StratifiedKFold,n_splits:4}"
    request = compose_request(["estimator=logistic_liblinear", f"estimator.cv={scheme}"])
    assert type(request.question.estimator.model.cv).__name__ == "StratifiedKFold"
    assert request.question.estimator.model.cv.n_splits == 4


@pytest.mark.parametrize(
    "target",
    [
        "sklearn.",
        "sklearn..svm",
        "sklearn.svm.",
        "sklearn.\x00.svm",
        "sklearn.nothing.Thing",
        "",
        "5",
        "[]",
        "null",
    ],
)
def test_a_target_that_cannot_be_imported_is_one_message(target):
    with pytest.raises(UsageError, match="_target_"):
        compose_request(["estimator=lda", f"estimator._target_='{target}'"])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "sklearnevil.Thing",
        "sklearn.os.system",
        "harness.app.entry.os.system",
        "harness.app.entry.sys.exit",
        "harness.tracking.provenance.subprocess.run",
        "harness.app.entry.Path",
        "sklearn.show_versions",
    ],
)
def test_only_classes_of_allowed_packages_are_imported(target):
    with pytest.raises(UsageError, match=r"^estimator\._target_="):
        import_allowed_class("estimator", target)


@pytest.mark.parametrize("group", ["estimator", "cv", "dataset"])
def test_only_classes_of_allowed_packages_are_built(compose, group):
    with pytest.raises(UsageError, match=rf"{group}\._target_='os.system' is not of an allowed package"):
        compose(f"{group}._target_=os.system")


def test_nested_targets_are_checked_too(compose):
    with pytest.raises(UsageError, match="not of an allowed package"):
        compose("++estimator.class_weight={_target_:os.getcwd}")


def test_users_can_allow_their_own_package(compose, monkeypatch, tmp_path):
    (tmp_path / "mylab_decoders.py").write_text(
        "from sklearn.svm import LinearSVC\nclass OurSVC(LinearSVC):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    target = "estimator._target_=mylab_decoders.OurSVC"
    with pytest.raises(UsageError, match="HARNESS_TARGETS"):
        compose(target)
    monkeypatch.setenv("HARNESS_TARGETS", "mylab_decoders")
    assert type(compose(target).question.estimator.model).__name__ == "OurSVC"


def test_allowed_prefixes_end_with_a_dot():
    """Without it, `sklearnevil` would pass for `sklearn`."""
    assert all(prefix.endswith(".") for prefix in ALLOWED_TARGETS)


def test_only_classifiers_are_estimators(compose):
    with pytest.raises(UsageError, match=r"Lasso is .* classifier"):
        compose(
            "estimator._target_=sklearn.linear_model.Lasso",
            "estimator=dummy",
            "~estimator.strategy",
            "~estimator.random_state",
        )
