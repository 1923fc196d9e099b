"""Which documented commands are not run as they are, and why; what a page assumes that it does not show."""

from dataclasses import dataclass

SMALL_TEST = "inference.limit=5 inference.n=19"  # 19 random relabellings
ONE_RUN = "subject=2 estimator=dummy cv=logo"


@dataclass(frozen=True)
class SkippedCommand:
    """A command that is not run.

    Attributes
    ----------
    pattern : str
        Regular expression that is searched in the command.
    covered_by : str
        File below ``tests/``, or ``file::function``, that does what the command does, and contains a word of
        what the pattern finds; empty if no test does, and the reason says why.
    """

    pattern: str
    reason: str
    covered_by: str


EXCEPTIONS = (
    SkippedCommand(r"^pip install", "installs from the network", "tests/test_packaging.py"),
    SkippedCommand(
        r"^(python -m venv|\. |pre-commit install|pytest|bash \.ci/run)",
        "make the environment of the tests, or run all tests, of which this is one",
        "",
    ),
    SkippedCommand(
        r"^python -m sphinx", "builds the site; CI does it after the tests", "tests/site/test_site_pages.py"
    ),
    SkippedCommand(r"harness fetch ", "downloads 300 MB", "tests/datasets/test_haxby_download.py"),
    SkippedCommand(r"harness ui\b", "serves until Ctrl-C", "tests/app/test_ui.py"),
    SkippedCommand(r"=submitit_slurm|launcher=mylab", "needs SLURM", "tests/front_door/test_slurm.py"),
    SkippedCommand(
        r"tracking=server|mlflow server|^export MLFLOW_",
        "needs a server at a fixed address",
        "tests/tracking/test_server.py",
    ),
    SkippedCommand(
        r"^(apt-get|runuser|echo .*pgpass)", "sets up PostgreSQL as root", "tests/services.py::start_postgres"
    ),
    SkippedCommand(r"install=fish", "fish is not installed in CI", "tests/app/test_completion.py"),
    SkippedCommand(r"^python benchmarks/", "take minutes to hours; no test runs them", ""),
)


@dataclass(frozen=True)
class Shortened:
    """A command that is run with further overrides; of two overrides of one key, the last counts."""

    pattern: str
    overrides: str
    reason: str


VERBS = (
    "cache|check|compare|doctor|explain|export|fetch|inspect|predict|relocate|replay|report|runs|tutorial|ui"
)
SHORTER = (
    Shortened(
        rf"^python -m harness (?!({VERBS}|--help|--version)\b|estimator=svc cv=logo$)",
        "figures=off",
        "the figures of a run take 2 seconds; the first command of the README and `report` draw all of them",
    ),
    Shortened(r"-cn subjects_grid$", "subject=1,2 estimator=dummy", "18 runs"),
    Shortened(r"-cn estimators_by_cv$", "estimator=dummy", "20 runs"),
    Shortened(r"-cn contrasts_grid$", "estimator=dummy contrast=face_vs_cat,cat_vs_shoe", "28 runs"),
    Shortened(r"-cn estimator_or_scheme$", "estimator=dummy,ridge cv=logo", "32 runs"),
    Shortened(r"-cn searchlight_maps$", f"roi=vt {SMALL_TEST}", "2048 relabellings of a brain"),
    Shortened(r"cv=holdout30,kfold5,logo$", ONE_RUN, "54 runs"),
    Shortened(r"-m cv=logo,kfold5,stratified5 estimator=svc,dummy$", "estimator=dummy", "six runs"),
    Shortened(r"-m signal.smoothing_fwhm=", "estimator=dummy", "three runs of svc"),
    Shortened(r"-m roi=vt,house contrast=", "estimator=dummy", "four runs of svc"),
    Shortened(r"^(?!.*=haxby).*( tutorial|-cn tutorial/)", "roi=face_little figures=off", "a minute"),
    Shortened(r"launcher=joblib", "subject=1,2 estimator=dummy", "18 runs"),
    Shortened(r"launcher=submitit_local", "estimator=dummy", "two runs of svc"),
    Shortened(r"roi=brain .*inference=permutation", f"roi=vt {SMALL_TEST}", "2048 relabellings of a brain"),
    Shortened(r"subject=1,2,3 .*inference=permutation", SMALL_TEST, "2048 relabellings of three subjects"),
    Shortened(
        r"subject='range\(1,7\)' .*searchlight|searchlight .*range\(1,7\)", "subject=1,2", "6 subjects"
    ),
    Shortened(r"subject='range\(1,7\)' .*inference=", "subject=1,2,3", "6 subjects"),
    Shortened(
        r"^python -m harness (estimator=ridge )?scoring.inner=runs inference=permutation",
        SMALL_TEST,
        "2048 relabellings",
    ),
    Shortened(
        r"order_preserving .*=DIR$",
        "inference.force=true",
        "the small subject of the test has 8 such relabellings, too few for p of .05",
    ),
    Shortened(
        r"dataset=(nifti|bids|mine)\b", "scoring.inner_folds=2", "the study of the test has few volumes"
    ),
)

FAILING = {
    r"harness tutorial dataset=haxby subject=2": "the small subject of the test has not the published values",
    r"harness check dataset=haxby": "in the small subject of the test, the order predicts the classes",
}
"""Commands that end with exit status 1 in the test, and why."""

PREPARED = {
    "docs/faq.md": ("estimator=dummy cv=holdout30 figures=off",),
    "docs/store.md": ("estimator=dummy figures=off",),
    "docs/stored_runs.md": ("-m subject=2,3 estimator=ridge,lda figures=off",),
    "docs/predict.md": ("estimator=ridge figures=off",),
    "docs/replay.md": (
        "dataset=haxby dataset.data_dir=/my/data subject=1 estimator=lda figures=off",
        "dataset=haxby dataset.data_dir=/my/data subject=1 estimator=svc figures=off",
    ),
    "docs/report.md": ("-m subject=1,2 estimator=dummy figures=off",),
    "docs/comparing.md": (
        "-m dataset=haxby dataset.data_dir=SHARED/haxby2001-vt subject=1 estimator=svc,logistic,ridge,lda "
        "cv=logo contrast=shoe_vs_bottle figures=off",
        "-m dataset=haxby dataset.data_dir=SHARED/haxby2001-vt subject=1 estimator=svc,logistic,ridge,lda "
        "cv=holdout30,kfold5,logo,stratified5 figures=off",
    ),
}
"""Runs that a page assumes, by the overrides of the commands that make them."""
