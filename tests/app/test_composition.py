"""Overrides become checked objects, and whatever cannot be composed is refused in one message."""

import re

import pytest
from sklearn.svm import LinearSVC

from harness.app.composition import compose_request, compose_requests
from harness.app.entry import run
from harness.errors import UsageError
from harness.tracking.store import check_server

pytestmark = pytest.mark.usefixtures("quick_composition")

NEEDED = {
    "nifti": ["++dataset.bold=bold.nii.gz", "++dataset.labels=labels.tsv"],
    "bids": ["++dataset.root=/data"],
}


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "http://user:secret@127.0.0.1:5000"])
def test_tracking_uri_is_a_server_without_a_password(uri):
    with pytest.raises(UsageError) as error:
        check_server(uri)
    assert "secret" not in str(error.value)


def test_conditions_can_be_a_list_or_groups(compose):
    request = compose("contrast=animate_vs_inanimate", "contrast.conditions=[{living:[face,cat]},shoe]")
    assert request.question.contrast.members == {"living": ("face", "cat"), "shoe": ("shoe",)}


def test_estimator_takes_arguments_that_its_file_does_not_mention(compose):
    model = compose(
        "estimator=svc_liblinear", "++estimator.class_weight=balanced", "estimator.grid.C=[0.5]"
    ).question.estimator
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


def test_a_grid_is_a_list_or_multiples_of_the_smallest_c(compose):
    with pytest.raises(UsageError, match="times_l1_min_c"):
        compose("estimator=svc_l1", "++estimator.grid.C={foo:[1]}")


def test_composing_raises_the_messages_of_a_run():
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
def test_a_value_of_another_type_is_refused_with_the_expected_type(word, expected):
    key = word.partition("=")[0]
    with pytest.raises(UsageError, match=re.escape(f"'{word}' cannot be used; {key}")) as error:
        compose_request([word])
    assert str(error.value).endswith(f"takes {expected}")


def test_an_argument_of_another_scheme_is_refused_with_the_schemes_that_have_it():
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
        compose_request([f"dataset={option}", *NEEDED.get(option, []), f"++dataset.{key}={value}"])


def test_several_values_are_several_requests_in_the_order_of_a_multirun():
    requests = compose_requests(["subject=range(1,4)", "contrast=face_vs_cat,face_vs_house"])
    assert [(request.subject, request.question.contrast.name) for request in requests] == [
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
    assert request.question.estimator.model.class_weight == "balanced"
    with pytest.raises(UsageError, match=r"nowhere is .*(folder|directory)"):
        compose_request([], tmp_path / "nowhere")


@pytest.mark.parametrize(
    "scheme",
    [
        "logo",
        "mine",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("holdout30", "kfold5", "stratified5")),
    ],
)
def test_incomplete_folds_are_refused_unless_the_option_or_an_override_skips_them(scheme, tmp_path):
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "mine.yaml").write_text("_target_: sklearn.model_selection.KFold\nincomplete: skip\n")
    request = compose_request([f"cv={scheme}"], tmp_path)
    default = "skip" if scheme == "mine" else "refuse"
    assert (request.question.scheme.name, request.question.scheme.incomplete) == (scheme, default)
    for value in ("skip", "refuse"):
        request = compose_request([f"cv={scheme}", f"cv.incomplete={value}"], tmp_path)
        assert request.question.scheme.incomplete == request.params["value.cv.incomplete"] == value


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    option = tmp_path / "signal" / "broken.yaml"
    option.parent.mkdir()
    option.write_text("detrend: [1,\n}")
    with pytest.raises(UsageError, match=rf"configuration file cannot be read: .*{re.escape(str(option))}"):
        compose_request(["signal=broken"], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["-m", "estimator=svm,svc"],
            "unknown option 'estimator=svm'.*Did you mean 'svc'",
            marks=pytest.mark.slow,
        ),
        pytest.param(["-m", "estimator=svm,svc", "roi=vt,nope"], "unknown option", marks=pytest.mark.slow),
        (["estimator=" + 300 * "x"], "no file can have"),
        pytest.param(["-m", "estimator=svc," + 300 * "x"], "no file can have", marks=pytest.mark.slow),
    ],
)
def test_an_unknown_option_is_one_message_in_runs_and_sweeps(
    arguments, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "figures=off"]) == 2
    error = capsys.readouterr().err
    assert re.search(expected, error, flags=re.DOTALL), error
    assert "Config search path" not in error
    assert "can be written" not in error
