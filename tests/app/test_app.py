"""The vocabulary: every option composes and runs; everything outside of it is refused in one message."""

import re
import shlex
import tomllib
from pathlib import Path

import harness.conf
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from sklearn.svm import LinearSVC

from harness.app.allowed_targets import ALLOWED_TARGETS
from harness.app.composition import compose_request, compose_requests, decode_request
from harness.app.entry import run
from harness.app.overrides import GROUPS as TYPED_GROUPS
from harness.app.overrides import put_flags_first, quote_override
from harness.errors import UsageError
from harness.tracking.store import check_server

CONF = Path(harness.conf.__path__[0])
FOLDERS = [path for path in sorted(CONF.rglob("*")) if path.is_dir() and path.name != "__pycache__"]
# Below conf/hydra are launchers, which belong to no run; the tests of joblib and of SLURM start them.
GROUPS = [path.name for path in FOLDERS if path.parent == CONF and path.name != "hydra"]
OPTIONS = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
# Real data and servers cannot be had everywhere; these are composed and built, not run. `nifti` and `bids`
# run in tests of their own, on files that are made there.
NOT_RUN = {("dataset", "haxby"), ("dataset", "nifti"), ("dataset", "bids"), ("tracking", "server")}
NEEDED = {
    ("dataset", "nifti"): ["++dataset.bold=bold.nii.gz", "++dataset.labels=labels.tsv"],
    ("dataset", "bids"): ["++dataset.root=/data"],
}
SLOW = {"logistic", "logistic_liblinear", "all8", "animate_vs_inanimate", "svc_l1", "brain"}


def test_every_folder_of_options_is_in_the_wheel():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    packages = tomllib.loads(pyproject.read_text())["tool"]["setuptools"]["packages"]
    assert {".".join(["harness.conf", *folder.relative_to(CONF).parts]) for folder in FOLDERS} == {
        name for name in packages if name.startswith("harness.conf.")
    }


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_says_what_it_is(group, option):
    first = (CONF / group / f"{option}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


@pytest.mark.parametrize(
    ("group", "option"),
    [
        pytest.param(group, option, marks=[pytest.mark.slow] if option in SLOW else [])
        for group, option in OPTIONS
    ],
)
def test_every_option_composes_builds_and_runs_once(compose, simulated_cache, group, option):
    request = compose(
        f"{group}={option}",
        *NEEDED.get((group, option), []),
        *([] if group == "cv" else ["cv=holdout30"]),
        "scoring.inner_folds=2",
    )
    assert request.params[group].startswith(option)
    if (group, option) in NOT_RUN:
        return
    decoding = decode_request(request)
    assert decoding.folds["test_accuracy"].between(0, 1).all()
    assert (len(decoding.weights) == 0) == request.estimator.is_dummy
    has_c = any(name.startswith("best_C") for name in decoding.folds)
    assert has_c == (
        request.estimator.name in {"svc", "svc_liblinear", "svc_l1"} | {"logistic", "logistic_liblinear"}
    )


def test_defaults_are_the_tutorials(compose):
    request = compose()
    assert request.name == "sub-2 face_vs_cat vt svc logo"
    assert request.contrast.classes == ("face", "cat")
    assert request.scoring.select == "roc_auc"
    assert request.scoring.inner_folds == 10
    assert request.engine == "harness"
    assert request.params["signal"] == "tutorial"


def test_run_name_says_what_is_unusual(compose):
    request = compose(
        "signal=per_run", "contrast.conditions=[house,shoe]", "roi.mask=/data/my_roi.nii.gz", "subject=3"
    )
    assert re.fullmatch("sub-3 house_vs_shoe my_roi-[0-9a-f]{6} svc logo per_run", request.name)


def test_changed_options_are_not_called_by_their_bare_name(compose):
    """Two runs that were asked for different things must not look alike in a comparison."""
    request = compose(
        "cv=kfold5",
        "++cv.n_splits=10",
        "signal.detrend=true",
        "dataset.cache_dir=/somewhere",
        "scoring.select=accuracy",
    )
    assert request.scheme.name == request.params["cv"] == "kfold5[n_splits=10]"
    assert request.params["signal"] == "tutorial[detrend=true]"
    assert request.params["scoring"] == "roc_auc[select=accuracy]"
    assert request.params["dataset"] == "simulated", "where data lie does not change what they are"
    assert "n_splits=10" in request.name


def test_many_classes_are_called_what_the_user_types(compose):
    assert compose("contrast=all8").name == "sub-2 all8 vt svc logo"
    changed = compose("contrast=all8", "contrast.conditions=[face,cat,house,shoe]")
    assert changed.params["contrast"] == "face_vs_cat_vs_house_vs_shoe"


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "http://user:secret@127.0.0.1:5000"])
def test_tracking_uri_is_a_server_without_a_password(uri):
    with pytest.raises(UsageError) as error:
        check_server(uri)
    assert "secret" not in str(error.value)


def test_conditions_can_be_a_list_or_groups(compose):
    request = compose("contrast=animate_vs_inanimate", "contrast.conditions=[{living:[face,cat]},shoe]")
    assert request.contrast.members == {"living": ("face", "cat"), "shoe": ("shoe",)}


def test_estimator_takes_arguments_that_its_file_does_not_mention(compose):
    model = compose(
        "estimator=svc_liblinear", "++estimator.class_weight=balanced", "estimator.grid.C=[0.5]"
    ).estimator
    assert isinstance(model.model, LinearSVC)
    assert model.model.class_weight == "balanced"
    assert model.grid == {"C": [0.5]}


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("+contrast.foo=1", ["contrast.foo", "conditions"]),
        ("+foo=1", ["'foo'", "subject", "estimator"]),
        ("++estimator.Cx=1", ["estimator.Cx", "max_iter", "Did you mean 'C'"]),
        ("++estimator.grid.D=[1]", ["estimator.grid.D", "tol"]),
        ("++estimator.grid.C=3", ["estimator.grid.C=3", "[0.1,1,10]"]),
        ("++estimator.C=3", ["estimator.C=3", "estimator.grid.C=[3]"]),
        ("++cv.foo=1", ["cv.foo"]),
        ("++cv.incomplete=skp", ["cv.incomplete='skp'", "refuse, skip"]),
        ("++cv.incomplete=null", ["cv.incomplete=None", "refuse, skip"]),
        ("++cv.incomplete=[skip]", ["cv.incomplete=['skip']", "refuse, skip"]),
        ("++dataset.sede=1", ["dataset.sede", "Did you mean 'seed'"]),
        ("++estimator.grid=5", ["estimator.grid=5", "mapping"]),
        ("++estimator._partial_=true", ["estimator._partial_"]),
        ("scoring.inner_folds=1", ["scoring.inner_folds=1", "2 or more"]),
        ("scoring.report=[]", ["scoring.report"]),
        ("roi.screening_percentile=0", ["roi.screening_percentile=0", "100"]),
        ("contrast.conditions=[face]", ["at least two"]),
        ("dataset=nifti", ["dataset.bold is not given"]),
        ("dataset=bids", ["dataset.root is not given"]),
        ("cv._target_=sklearn.svm.LinearSVC", ["no method 'split'"]),
        ("dataset._target_=sklearn.svm.LinearSVC", ["no method 'load'"]),
        ("estimator._target_=sklearn.svm.LinearSVCC", ["cannot be imported"]),
    ],
)
def test_wrong_requests_name_key_value_and_remedy(compose, override, parts):
    with pytest.raises(UsageError) as error:
        compose(override)
    for part in parts:
        assert part in str(error.value)


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
@pytest.mark.parametrize("group", ["estimator", "cv", "dataset"])
def test_only_classes_of_allowed_packages_are_built(compose, group, target):
    with pytest.raises(UsageError, match="_target_"):
        compose(f"{group}._target_={target}")


def test_nested_targets_are_checked_too(compose):
    with pytest.raises(UsageError, match="not of an allowed package"):
        compose("++estimator.class_weight={_target_:os.getcwd}")


def test_a_grid_says_a_list_or_multiples_of_the_smallest_c(compose):
    with pytest.raises(UsageError, match="times_l1_min_c"):
        compose("estimator=svc_l1", "++estimator.grid.C={foo:[1]}")


def test_users_can_allow_their_own_package(compose, monkeypatch, tmp_path):
    (tmp_path / "mylab_decoders.py").write_text(
        "from sklearn.svm import LinearSVC\nclass OurSVC(LinearSVC):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    target = "estimator._target_=mylab_decoders.OurSVC"
    with pytest.raises(UsageError, match="HARNESS_TARGETS"):
        compose(target)
    monkeypatch.setenv("HARNESS_TARGETS", "mylab_decoders")
    assert type(compose(target).estimator.model).__name__ == "OurSVC"


def test_allowed_prefixes_end_with_a_dot():
    """Without it, `sklearnevil` would pass for `sklearn`."""
    assert all(prefix.endswith(".") for prefix in ALLOWED_TARGETS)


@pytest.mark.parametrize(
    ("typed", "sorted_"),
    [
        (["a=1", "-m", "b=1,2"], ["-m", "a=1", "b=1,2"]),
        (["a=1", "--config-dir", "my conf", "b=2"], ["--config-dir", "my conf", "a=1", "b=2"]),
        (["--config-dir=conf", "a=1"], ["--config-dir=conf", "a=1"]),
        (["a=1", "-cn"], ["-cn", "a=1"]),
    ],
)
def test_flags_may_stand_anywhere(typed, sorted_):
    assert put_flags_first(typed) == sorted_


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("tracking.folder=/tmp/dätä/sub folder", "/tmp/dätä/sub folder"),
        ("roi.mask=~/roi.nii.gz", str(Path("~/roi.nii.gz").expanduser())),
        (r"roi.mask=C:\data\roi.nii.gz", r"C:\data\roi.nii.gz"),
        ("roi.mask='already quoted'", "already quoted"),
    ],
)
def test_paths_are_taken_as_they_are_typed(typed, value):
    with initialize_config_module("harness.conf", version_base="1.3"):
        config = hydra_compose("config", [quote_override(typed)])
    assert value in (config.tracking.folder, config.roi.mask)


def test_only_classifiers_are_estimators(compose):
    with pytest.raises(UsageError, match="Lasso is no classifier"):
        compose(
            "estimator._target_=sklearn.linear_model.Lasso",
            "estimator=dummy",
            "~estimator.strategy",
            "~estimator.random_state",
        )


def test_composing_says_what_a_run_would_say():
    with pytest.raises(UsageError, match=r"unknown option 'estimator=svm'.*Did you mean 'svc'\?"):
        compose_request(["estimator=svm"])
    with pytest.raises(UsageError, match=r"'estimator' cannot be read|missing EQUAL"):
        compose_request(["estimator"])
    with pytest.raises(UsageError, match="'subject=two' cannot be used; subject takes a whole number"):
        compose_request(["subject=two"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cat_vs_face", "face_vs_cat"),
        ("chair_vs_house", "house_vs_chair"),
        ("inanimate_vs_animate", "animate_vs_"),
    ],
)
def test_a_contrast_in_the_other_order_is_suggested(typed, meant):
    with pytest.raises(UsageError, match=rf"Did you mean '{meant}"):
        compose_request([f"contrast={typed}"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("subject=two", "a whole number"),
        ("seed=1.5", "a whole number"),
        ("cache=maybe", "true or false"),
        ("resume=2.5", "true or false or null"),
        ("engine=fsl", "one of harness, nilearn"),
        ("signal.zscore=5", "one of own, run, train, none"),
        ("signal.high_pass=fast", "a number or null"),
        ("signal.confounds=5", "a list of text or null"),
        ("scoring.report=[loss]", "a list of one of accuracy, balanced_accuracy, roc_auc"),
        ("contrast.conditions=face", "a list"),
        ("roi.mask=[a]", "text"),
    ],
)
def test_a_value_of_another_type_is_answered_with_what_the_key_takes(word, expected):
    key = word.partition("=")[0]
    with pytest.raises(UsageError, match=re.escape(f"'{word}' cannot be used; {key}")) as error:
        compose_request([word])
    assert str(error.value).endswith(f"takes {expected}")


def test_an_argument_of_another_scheme_names_the_scheme_and_those_that_have_it():
    with pytest.raises(UsageError) as error:
        compose_request(["cv.n_splits=3"])
    for part in ("cv=logo is LeaveOneGroupOut", "kfold5, stratified5", "cv=kfold5 cv.n_splits=VALUE"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("option", "key", "value", "expected"),
    [
        ("haxby", "data_dir", "5", "a path or null"),
        ("haxby", "data_dir", "[1]", "a path or null"),
        ("simulated", "seed", "1.5", "a whole number"),
        ("simulated", "seed", "true", "a whole number"),
        ("nifti", "bold", "{a:1}", "a path or a list of a path or null"),
        ("nifti", "t_r", "two", "a number or null"),
        ("nifti", "t_r", "inf", "a number or null"),
        ("nifti", "masks", "{vt:5}", "a mapping of names to a path"),
        ("bids", "run", "[[1]]", "text or a whole number or a list of text or a whole number or null"),
        ("bids", "root", "5", "a path or null"),
    ],
)
def test_an_option_of_a_data_set_has_the_type_that_its_class_declares(option, key, value, expected):
    with pytest.raises(UsageError, match=rf"dataset\.{key}=.* cannot be used; expected {expected}$"):
        compose_request(
            [f"dataset={option}", *NEEDED.get(("dataset", option), []), f"++dataset.{key}={value}"]
        )


def test_every_spelling_of_the_readme_composes():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.partition("| group | options |")[2].partition("Bold is the default")[0]
    spellings = [
        spelling for line in table.splitlines() for spelling in re.findall(r"`([^`]*\.[^`]*=[^`]*)`", line)
    ]
    assert len(spellings) > 12
    for spelling in spellings:
        words = shlex.split(spelling)
        if "-m" not in words:  # launchers belong to no run
            compose_request(words)


def test_groups_of_the_command_line_and_of_the_schema_agree():
    assert set(TYPED_GROUPS) == set(GROUPS)


def test_several_values_are_several_requests_in_the_order_of_a_multirun():
    requests = compose_requests(["subject=range(1,4)", "contrast=face_vs_cat,face_vs_house"])
    assert [(request.subject, request.contrast.name) for request in requests] == [
        (subject, contrast) for subject in (1, 2, 3) for contrast in ("face_vs_cat", "face_vs_house")
    ]
    with pytest.raises(UsageError, match="has 2 combinations of values"):
        compose_request(["subject=1,2"])


def test_open_groups_need_no_plus_signs():
    assert compose_request(["dataset.seed=3", "estimator.tol=0.01"]).dataset.seed == 3


def test_composing_finds_a_users_own_options(tmp_path):
    option = tmp_path / "estimator" / "svc_balanced.yaml"
    option.parent.mkdir()
    option.write_text("_target_: sklearn.svm.LinearSVC\nclass_weight: balanced\n")
    request = compose_request(["estimator=svc_balanced"], tmp_path)
    assert request.estimator.model.class_weight == "balanced"
    with pytest.raises(UsageError, match="nowhere is no folder"):
        compose_request([], tmp_path / "nowhere")


@pytest.mark.parametrize("scheme", ["logo", "holdout30", "kfold5", "stratified5", "mine"])
def test_every_scheme_says_what_happens_to_incomplete_folds(scheme, tmp_path):
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "mine.yaml").write_text("_target_: sklearn.model_selection.KFold\nincomplete: skip\n")
    request = compose_request([f"cv={scheme}"], tmp_path)
    default = "skip" if scheme == "mine" else "refuse"
    assert (request.scheme.name, request.scheme.incomplete) == (scheme, default)
    for value in ("skip", "refuse"):
        request = compose_request([f"cv={scheme}", f"cv.incomplete={value}"], tmp_path)
        assert request.scheme.incomplete == request.params["config.cv.incomplete"] == value


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    option = tmp_path / "signal" / "broken.yaml"
    option.parent.mkdir()
    option.write_text("detrend: [1,\n}")
    with pytest.raises(UsageError, match=rf"configuration file cannot be read: .*{re.escape(str(option))}"):
        compose_request(["signal=broken"], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "estimator=svm,svc"], "unknown option 'estimator=svm'.*Did you mean 'svc'"),
        (["-m", "estimator=svm,svc", "roi=vt,nope"], "unknown option"),
        (["estimator=" + 300 * "x"], "no file can have"),
        (["-m", "estimator=svc," + 300 * "x"], "no file can have"),
    ],
)
def test_an_unknown_option_is_one_message_also_in_a_sweep(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "figures=off"]) == 2
    error = capsys.readouterr().err
    assert re.search(expected, error, flags=re.DOTALL), error
    assert "Config search path" not in error
    assert "can be written" not in error
