"""Options that would have no effect are refused, and the message names what to type instead."""

import numpy as np
import pytest
import yaml

from harness.app.composition import compose_request
from harness.app.entry import run
from harness.datasets.nifti import Nifti
from harness.decoding.estimator import Estimator
from harness.decoding.nilearn_decoder import check_nilearn
from harness.errors import UsageError
from harness.samples.samples import Roi, load_samples
from harness.samples.signal import Signal
from harness.solvers.estimators import ExactLinearSVC
from marks import first

pytestmark = pytest.mark.usefixtures("quick_composition")

SERVER = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("words", "remedy"),
    first(
        4,
        [
            ([f"tracking.uri={SERVER}"], f"tracking=server tracking.uri={SERVER}"),
            (["tracking=off", f"tracking.uri={SERVER}"], f"tracking=server tracking.uri={SERVER}"),
            (["tracking=off", "tracking.experiment=mine"], "choose tracking=local or tracking=server"),
            (["tracking=off", "resume=true"], "choose tracking=local or tracking=server"),
            (["model=true", "tracking=off"], "leave out model=true"),
            (["model=true", "signal.average_blocks=true"], "leave out model=true"),
            (["model=true", "signal.confounds=[motion]"], "leave out model=true"),
            (["model=true", "engine=nilearn", "estimator=dummy"], "leave out model=true"),
            (["tracking=server", "tracking.uri=null"], "tracking.uri=http://127.0.0.1:5000"),
            (["hydra/launcher=joblib"], "-m launches several"),
            (["hydra.launcher.n_jobs=2"], "-m launches several"),
            (["++hydra.launcher.n_jobs=2"], "-m launches several"),
            (["hydra.sweeper.max_batch_size=2"], "-m launches several"),
            (["hydra.sweep.dir=elsewhere"], "-m launches several"),
            (["cv=kfold5", "cv.random_state=1"], "shuffle"),
            (["cv=stratified5", "cv.random_state=1"], "shuffle"),
            (["cv.n_splits=3"], "type cv=kfold5 cv.n_splits=VALUE"),
            (["cv=kfold5", "cv.n_volumes=3"], "type cv=holdout30 cv.n_volumes=VALUE"),
            (["estimator.C=10"], "estimator.grid.C=[10]"),
            (["estimator.strategy=prior"], "type estimator=dummy estimator.strategy=VALUE"),
            (["signal.confounds_file=c.tsv", "signal.confounds=[]"], "type signal.confounds=null"),
            (["engine=nilearn", "signal.zscore=train"], "signal=tutorial or signal=per_run"),
            (["engine=nilearn", "estimator.tol=1e-3"], "use engine=harness"),
            (["engine=nilearn", "estimator=logistic", "estimator.max_iter=7"], "use engine=harness"),
            (
                ["engine=nilearn", "estimator=logistic", "estimator.grid.tol=[1]"],
                "leave estimator.grid empty",
            ),
            (
                ["dataset=nifti", "dataset.bold=b", "dataset.labels=l", "dataset.trial_types=[a]"],
                "dataset.events",
            ),
            (
                ["dataset=nifti", "dataset.bold=b", "dataset.labels=l", "dataset.events=e"],
                "expected one of the two",
            ),
        ],
    ),
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_an_option_without_effect_is_refused_early(words, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        compose_request(words)
    assert remedy in str(error.value)
    key = words[-1].lstrip("+").partition("=")[0]
    assert key.rpartition(".")[2] in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "parts"),
    first(
        3,
        [
            (["contrast.conditions=[{null:[face]},cat]"], ["a class has no name", "[{animate:[face,cat]},"]),
            (
                ["signal.confounds._target_=x"],
                ["signal.confounds has no key '_target_'", "signal.confounds=VALUE"],
            ),
            (["contrast.conditions.a=b"], ["contrast.conditions has no key 'a'"]),
            (
                ["tracking.uri=''"],
                ["tracking.uri='' is not the address of a server", "http://127.0.0.1:5000"],
            ),
            (["tracking=server", "tracking.uri=''"], ["tracking.uri='' is not the address of a server"]),
            (["tracking.folder=~nouser/x"], ["tracking.folder='~nouser/x'", "tracking.folder=~/mlruns"]),
            (["scoring.report=[roc_auc,roc_auc]"], ["scoring.report=[roc_auc,roc_auc]", "twice"]),
        ],
    ),
    ids=lambda words: " ".join(words),
)
def test_a_value_that_cannot_be_used_is_named_with_what_is_expected(words, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        compose_request(words)
    assert [part for part in parts if part not in str(error.value)] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    first(
        2,
        [
            ["tracking=off"],
            ["tracking=server"],
            ["tracking=server", f"tracking.uri={SERVER}", "tracking.experiment=mine", "tracking.folder=here"],
            ["tracking=off", "tracking.folder=here", "resume=false"],
            ["cv=kfold5", "cv.shuffle=true", "cv.random_state=1"],
            ["engine=nilearn", "estimator.grid.C=[1]"],
            ["engine=nilearn", "estimator=logistic", "estimator.Cs=[1]", "estimator.cv=3"],
            ["engine=nilearn", "estimator=svc_liblinear", "estimator.tol=1e-3"],
            ["signal.confounds=[]"],
            ["seed=5"],
            ["hydra.run.dir=here"],
        ],
    ),
    ids=" ".join,
)
def test_options_that_have_an_effect_are_accepted(words):
    compose_request(words)


@pytest.mark.parametrize(
    "arguments",
    [
        [f"tracking.uri={SERVER}"],
        ["-m", "hydra.run.dir=here", "subject=1,2"],
        pytest.param(["-m", f"tracking.uri={SERVER}", "subject=1,2"], marks=pytest.mark.slow),
        pytest.param(["hydra/launcher=joblib"], marks=pytest.mark.slow),
        pytest.param(["hydra.launcher.n_jobs=2"], marks=pytest.mark.slow),
        pytest.param(["-m", "tracking=server", "tracking.uri=null"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_the_command_ends_with_a_message_and_makes_no_store(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not list(tmp_path.rglob("*.db"))


def test_what_a_users_own_option_sets_without_effect_is_refused(tmp_path):
    option = tmp_path / "tracking" / "ours.yaml"
    option.parent.mkdir()
    option.write_text(yaml.safe_dump({"kind": "local", "uri": SERVER}))
    with pytest.raises(UsageError, match="has no effect"):
        compose_request(["tracking=ours"], tmp_path)


def test_a_default_that_is_typed_is_no_change():
    check_nilearn(Estimator("svc", ExactLinearSVC(**ExactLinearSVC().get_params()), {"C": [1.0]}), "own")
    Nifti(bold="b", labels="l", events_column="trial_type", trial_types=None)
    Signal(confounds_file="c.tsv", confounds=None)


def test_a_percentage_that_keeps_every_voxel_is_warned_of(compose, tiny_subject):
    """10 % of a brain of 1 882 989 cubic millimetres is more than all of VT here."""
    words = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1"]
    request = compose(*words)
    recording = request.dataset.load(1)
    with pytest.warns(UserWarning, match=r"roi\.screening_percentile=10 has no effect"):
        few = load_samples(recording, request.question.contrast, Roi("vt", 10.0), request.question.signal)
    every = load_samples(
        recording, request.question.contrast, Roi("vt"), request.question.signal
    )  # the default warns of nothing
    np.testing.assert_array_equal(few.X, every.X)
