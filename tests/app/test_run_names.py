"""Equal configurations have one name and one fingerprint, however they are typed; others have two."""

import itertools
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.app.composition import compose_request, compose_requests
from harness.app.normalisation import normalise
from harness.datasets.images import digest_files
from harness.samples.samples import open_sources
from harness.tracking.fingerprint import fingerprint_run
from harness.tracking.ledger import Outcome
from harness.tracking.queries import COMPARED_PARAMS
from harness.tracking.run_tables import compare_outcomes
from marks import first
from processes import harness, read_runs

pytestmark = pytest.mark.usefixtures("quick_composition")

# Values of C, which are above zero.
NUMBERS = st.one_of(st.integers(1, 2**40), st.floats(min_value=1e-12, max_value=1e12))


@pytest.fixture(scope="module")
def describe(tiny_subject):
    """Return a function from overrides to name, compared parameters and fingerprint of a run."""
    data = tiny_subject()

    def describe_run(*overrides):
        base = ["dataset=haxby", f"dataset.data_dir={data}", "subject=1"]
        request = compose_request([*base, *overrides])
        recording = request.dataset.load(1)
        compared = {name: request.params.get(name) for name in COMPARED_PARAMS}
        sources = open_sources(recording, request.question.roi, request.question.signal)
        identity = fingerprint_run(normalise(request.config), sources, digest_files(recording.bold))
        return request.name, compared, identity

    describe_run.data = data
    return describe_run


@pytest.mark.parametrize(
    "spellings",
    first(
        2,
        [
            # Defaults that are typed are no changes.
            [[], ["signal.detrend=false"], ["signal.smoothing_fwhm=null"], ["signal.lag=0"], ["seed=0"]],
            [[], ["estimator.grid.C=[1,10,100]"], ["estimator.grid={C: [1.0, 1e1, 100.0]}"]],
            [[], ["contrast.conditions=[face,cat]"], ["roi.screening_percentile=20"], ["roi.mask=vt"]],
            [[], ["engine=harness"], ["scoring.select=roc_auc"], ["scoring.inner_folds=10"]],
            # Arguments of a class that have its own defaults.
            [
                ["estimator=svc_liblinear"],
                ["estimator=svc_liblinear", "estimator.fit_intercept=true"],
                ["estimator=svc_liblinear", "estimator.class_weight=null", "estimator.tol=0.0001"],
                ["estimator=svc_liblinear", "~estimator.penalty"],
            ],
            [["cv=kfold5"], ["cv=kfold5", "cv.shuffle=False"], ["cv=kfold5", "cv.random_state=null"]],
            # Spelling, order, quotes, and how a mapping is written.
            [["signal.detrend=true"], ["signal.detrend=True"], ["signal.detrend=yes"]],
            [["signal.zscore=run"], ["signal.zscore='run'"], ['signal.zscore="run"']],
            [["signal.smoothing_fwhm=4"], ["signal.smoothing_fwhm=4.0"], ["signal.smoothing_fwhm=0.4e1"]],
            [["signal.lag=1", "signal.trim_first=1"], ["signal.trim_first=1", "signal.lag=1"]],
            [
                ["cv=kfold5", "cv.n_splits=3", "cv.shuffle=true", "cv.random_state=1"],
                ["cv.random_state=1", "cv.shuffle=True", "cv.n_splits=3", "cv=kfold5"],
            ],
            [["roi=face"], ["roi=face_little", "roi.mask=face"]],
        ],
    ),
)
def test_one_question_has_one_name_and_one_fingerprint(describe, spellings, monkeypatch):
    # The tiny subject has one mask; others are found by their file, which may be anything here.
    monkeypatch.setattr("harness.samples.samples.find_mask", lambda recording, *_: recording.masks["vt"])
    first, *others = [describe(*overrides) for overrides in spellings]
    for overrides, other in zip(spellings[1:], others, strict=True):
        assert other == first, overrides


QUESTIONS = [
    [],
    ["seed=1"],
    ["engine=nilearn"],
    ["contrast=cat_vs_house"],
    ["contrast.conditions=[cat,face]"],
    ["contrast.conditions=[{face:[face,house]},cat]"],
    ["contrast.conditions=[{face:[face]},{cat:[cat,house]}]"],
    ["contrast=animate_vs_inanimate"],
    ["contrast=animate_vs_inanimate", "contrast.conditions=[{animate:[face]},{inanimate:[house]}]"],
    ["estimator=ridge"],
    ["estimator=dummy"],
    ["estimator=dummy", "seed=1"],
    ["estimator.grid.C=[1]"],
    ["estimator.grid.C=[1.5]"],
    ["estimator=svc_liblinear"],
    ["estimator=svc_liblinear", "estimator.max_iter=1000"],
    ["estimator=svc_liblinear", "~estimator.max_iter"],
    ["estimator=svc_liblinear", "estimator.class_weight=balanced"],
    ["cv=kfold5"],
    ["cv=kfold5", "cv.n_splits=4"],
    ["scoring=accuracy"],
    ["scoring.inner_folds=3"],
    ["scoring.inner=runs"],
    ["scoring.report=[accuracy]"],
    ["signal=per_run"],
    ["signal=per_run", "signal.detrend=false"],
    ["signal.lag=1"],
    ["signal.average_blocks=true"],
    ["roi.screening_percentile=10"],
]


@pytest.mark.slow
def test_two_questions_look_different_in_names_and_tables(describe):
    # `~max_iter` leaves the class's own 1000, so these two are one question.
    same = {
        ("estimator=svc_liblinear", "estimator.max_iter=1000"),
        ("estimator=svc_liblinear", "~estimator.max_iter"),
    }
    described = {tuple(overrides): describe(*overrides) for overrides in QUESTIONS}
    for (one, a), (other, b) in itertools.combinations(described.items(), 2):
        equal = {one, other} == same
        assert (a[2] == b[2]) == equal, (one, other)
        assert (a[0] == b[0]) == equal, (one, other)
        assert (a[1] == b[1]) == equal, (one, other)


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(NUMBERS, min_size=1, max_size=4))
def test_numbers_count_by_their_value(compose, values):
    def describe_grid(text):
        request = compose(f"estimator.grid.C=[{text}]")
        return request.name, normalise(request.config)

    first, *others = [
        describe_grid(",".join(repr(value) for value in values)),
        describe_grid(",".join(str(int(v)) if float(v).is_integer() else f"{v:.17e}" for v in values)),
        describe_grid(", ".join(repr(float(value)) for value in values)),
    ]
    assert others == [first, first]
    larger = [*values[:-1], float(values[-1]) + 0.5 + abs(values[-1])]
    changed = describe_grid(",".join(map(repr, larger)))
    assert changed[0] != first[0]
    assert changed[1] != first[1]


def test_a_flag_is_no_number(describe):
    of_flag, of_number = (
        describe("estimator=svc_liblinear", f"estimator.verbose={word}") for word in ("true", "1")
    )
    assert of_flag[2] != of_number[2]
    assert of_flag[0] != of_number[0]


def test_names_are_those_of_the_composed_configuration(compose, tmp_path):
    """What a study changes is a change, too, and what an own option says is not."""
    assert compose("signal.detrend=True").name == "sub-2 face_vs_cat vt svc logo tutorial[detrend=true]"
    several = compose(
        "estimator=svc_liblinear",
        "estimator.max_iter=5000",
        "estimator.class_weight=balanced",
        "estimator.dual=True",
        "estimator.tol=1e-3",
    )
    changes = "class_weight=balanced,dual=true,max_iter=5000,tol=0.001"
    assert several.params["estimator"] == f"svc_liblinear[{changes}]"
    option = tmp_path / "signal" / "mine.yaml"
    option.parent.mkdir()
    option.write_text("defaults: [per_run]\nlag: 2\n")
    assert compose_request(["signal=mine"], tmp_path).params["signal"] == "mine"
    changed = compose_request(["signal=mine", "signal.lag=1", "signal.detrend=true"], tmp_path)
    assert changed.params["signal"] == "mine[lag=1]"


def test_engine_and_seed_are_named_where_they_are_not_the_default(compose):
    assert compose("engine=nilearn").name == "sub-2 face_vs_cat vt svc logo engine=nilearn"
    assert compose("seed=3").name == "sub-2 face_vs_cat vt svc logo seed=3"
    assert compose("estimator=dummy", "seed=3").params["estimator"] == "dummy"
    assert compose("dataset.seed=3").name == "sub-2 face_vs_cat vt svc logo simulated[seed=3]"


def test_two_data_directories_look_different_without_their_paths(compose, tmp_path):
    folders = [tmp_path / "first" / "data", tmp_path / "second" / "data"]
    for folder in folders:
        folder.mkdir(parents=True)
    first, second = (compose("dataset=haxby", f"dataset.data_dir={folder}") for folder in folders)
    usual = compose("dataset=haxby", "dataset.data_dir=null")
    assert len({usual.name, first.name, second.name}) == 3
    assert usual.name == "sub-2 face_vs_cat vt svc logo"
    assert {request.params["dataset"] for request in (usual, first, second)} == {"haxby"}
    for request in (first, second):
        assert re.fullmatch("data-[0-9a-f]{6}", request.params["location"])
        assert f"location={request.params['location']}" in request.name
    assert "location" not in usual.params


def test_one_directory_has_one_name_however_it_is_written(compose, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spelled = ["data", "./data", f"{tmp_path}/data/", f"{tmp_path}/x/../data", "~/data"]
    assert len({compose("dataset=haxby", f"dataset.data_dir={word}").name for word in spelled}) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=haxby", "dataset.data_dir=/long/way/to/data"],
        ["dataset=bids", "dataset.root=/long/way/ds000105", "dataset.masks.ffa='/long/{subject}_ffa.nii.gz'"],
        [
            "dataset=nifti",
            "dataset.bold='/long/sub-{subject:02d}/*.nii.gz'",
            "dataset.labels=/long/labels.tsv",
        ],
        ["dataset=nifti", "dataset.bold=[/long/a.nii,/long/b.nii]", "dataset.labels=/long/labels.tsv"],
        ["roi.mask=/long/way/to/roi.nii.gz"],
        ["signal.confounds_file=/long/way/confounds.tsv"],
        ["dataset.cache_dir=/long/way"],
        [r"roi.mask=C:\long\roi.nii.gz"],
    ],
)
def test_names_hold_no_paths(compose, overrides):
    request = compose(*overrides)
    for word in (request.name, *request.choices.values()):
        assert not re.search(r"[/\\]|long", word), word


def test_what_else_is_changed_of_a_data_set_stays_readable(compose):
    request = compose(
        "dataset=bids", "dataset.root=/data/ds000105", "dataset.task=objects", "dataset.run=[1,2]"
    )
    assert request.params["dataset"] == "bids[run=[1,2],task=objects]"
    assert "bids[run=[1,2],task=objects] location=ds000105-" in request.name
    assert compose("dataset.cache_dir=/somewhere").name == compose().name


def test_masks_of_one_name_in_two_directories_look_different(compose):
    names = {
        compose(f"roi.mask={mask}").params["roi"]
        for mask in ("/a/vt.nii.gz", "/b/vt.nii.gz", "vt", "vt.nii.gz")
    }
    assert len(names) == 4


def test_names_have_a_length_that_stores_take(compose):
    """MLflow's databases hold 250 characters of a run's name."""
    grids = [[*range(1, 400)], [*range(1, 399), 401]]
    first, second = (compose(f"estimator.grid.C={grid}".replace(" ", "")) for grid in grids)
    assert len(first.name) <= 250
    assert first.name != second.name


def test_a_column_of_the_tables_appears_where_it_varies():
    outcomes = [
        Outcome(job, "finished", words={"dataset": "haxby", "engine": "harness", **words})
        for job, words in enumerate([{"location": "data-0123ab"}, {"location": "data-4567cd"}])
    ]
    same, varying = compare_outcomes(outcomes).split_params()
    assert varying == ["location"]
    assert same == {"dataset": "haxby", "engine": "harness"}
    same, varying = compare_outcomes(
        [*outcomes, Outcome(2, "finished", words={"dataset": "haxby"})]
    ).split_params()
    assert set(varying) == {"engine", "location"}


@pytest.mark.slow
def test_a_run_of_a_sweep_is_called_as_a_single_run(tmp_path, tiny_subject):
    common = ["dataset=haxby", f"dataset.data_dir={tiny_subject()}", "subject=1", "scoring.inner_folds=2"]
    common += ["figures=off", "estimator=dummy"]
    harness(tmp_path, *common, "signal.detrend=True", "signal.lag=0", "resume=false")
    harness(tmp_path, "-m", *common, "signal.lag=0", "signal.detrend=true,false", "resume=false")
    _, runs = read_runs(tmp_path)
    detrended = [run for run in runs if run.data.params["value.signal.detrend"] == "True"]
    assert len(detrended) == 2
    for fact in ("name", "signal", "identity"):
        values = {
            {
                "name": run.info.run_name,
                "signal": run.data.params["signal"],
                "identity": run.data.tags["harness.identity"],
            }[fact]
            for run in detrended
        }
        assert len(values) == 1, fact
    assert {run.data.params["signal"] for run in runs} == {"tutorial[detrend=true]", "tutorial"}


def test_requests_of_a_grid_are_called_as_each_by_itself():
    together = compose_requests(["signal.detrend=true,false", "estimator.grid.C=[1],[1.0,2]"])
    alone = [
        compose_request([f"signal.detrend={detrend}", f"estimator.grid.C={grid}"])
        for detrend in ("True", "False")
        for grid in ("[1.0]", "[1,2.0]")
    ]
    assert [request.name for request in together] == [request.name for request in alone]


@pytest.mark.parametrize(
    "overrides",
    first(
        1,
        [
            ["contrast.conditions=[{faces/all:[face]},{b:[cat]}]"],
            ["contrast.conditions=[auditory/left,auditory/right]"],
            [
                "dataset=nifti",
                "dataset.bold=/data/bold.nii.gz",
                "dataset.events=/data/events.tsv",
                "dataset.trial_types=[auditory/left]",
            ],
        ],
    ),
)
def test_names_with_a_slash_do_not_depend_on_the_current_directory(compose, tmp_path, monkeypatch, overrides):
    described = []
    for directory in ("one", "other"):
        (tmp_path / directory).mkdir()
        monkeypatch.chdir(tmp_path / directory)
        request = compose(*overrides)
        described.append((request.name, request.choices, normalise(request.config)))
    assert described[0] == described[1]
    assert re.search("faces|auditory", described[0][0])


def test_defaults_are_the_tutorials(compose):
    request = compose()
    assert request.name == "sub-2 face_vs_cat vt svc logo"
    assert request.question.contrast.classes == ("face", "cat")
    assert request.question.scoring.select == "roc_auc"
    assert request.question.scoring.inner_folds == 10
    assert request.question.engine == "harness"
    assert request.params["signal"] == "tutorial"


def test_run_name_shows_what_is_unusual(compose):
    request = compose(
        "signal=per_run", "contrast.conditions=[house,shoe]", "roi.mask=/data/my_roi.nii.gz", "subject=3"
    )
    assert re.fullmatch("sub-3 house_vs_shoe my_roi-[0-9a-f]{6} svc logo per_run", request.name)


def test_changed_options_are_not_called_by_their_bare_name(compose):
    """Two different runs must not look alike in a comparison."""
    request = compose(
        "cv=kfold5",
        "++cv.n_splits=10",
        "signal.detrend=true",
        "dataset.cache_dir=/somewhere",
        "scoring.select=accuracy",
    )
    assert request.question.scheme.name == request.params["cv"] == "kfold5[n_splits=10]"
    assert request.params["signal"] == "tutorial[detrend=true]"
    assert request.params["scoring"] == "roc_auc[select=accuracy]"
    assert request.params["dataset"] == "simulated", "where data lie does not change what they are"
    assert "n_splits=10" in request.name


def test_many_classes_are_named_by_their_option(compose):
    assert compose("contrast=all8").name == "sub-2 all8 vt svc logo"
    changed = compose("contrast=all8", "contrast.conditions=[face,cat,house,shoe]")
    assert changed.params["contrast"] == "face_vs_cat_vs_house_vs_shoe"
