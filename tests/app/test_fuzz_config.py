"""Every value of every key leads to a result or to one message: 2,400 cases, drawn with a fixed seed.

A case is composed and built like a run; if it can be built, it is decoded, on a subject of 60 volumes.
"""

import inspect
import re
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path

import harness.conf
import numpy as np
import pytest
from omegaconf import OmegaConf
from sklearn import model_selection
from sklearn.utils.discovery import all_estimators

from harness.app.allowed_targets import import_allowed_class, list_arguments
from harness.app.composition import compose_requests
from harness.app.entry import run
from harness.app.run_spec import decode_request
from harness.app.schema import RunSchema
from harness.errors import HarnessError

SEED = 20011009
N_CASES = 2400
CONF = Path(harness.conf.__path__[0])
LONG = "x" * 300

# Values as Hydra receives them.
VALUES = (
    *("null", "true", "false", "0", "1", "-1", "5", "1.5", "-0.0", "1e-300", "1e300", "1e400"),
    *("nan", "inf", "-inf", "9" * 30, "-" + "9" * 30, "", "''", "' '", "two", "'5'", LONG, f"'{'ü' * 300}'"),
    *("[]", "[null]", "[nan]", "[a,a]", "[1,a]", "[[1]]", "[[null]]", "[[a],[b]]", f"[{LONG},b]", "[{}]"),
    *("{}", "{a:1}", "{a:null}", "{a:{b:[null]}}", "{1:2}", "{null:1}", "[{a:[face]},{b:[cat]}]"),
    *("[{face:[face]},cat]", "[face,cat,house]", "{times_l1_min_c:[a]}", "{times_l1_min_c:2}"),
    *("{_target_:os.getcwd}", "{_target_:sklearn.svm.LinearSVC}", "{_target_:5}", "{_target_:null}"),
    *(
        "{_target_:sklearn.svm.LinearSVC,_partial_:true}",
        "{_args_:[1]}",
        "[{_target_:harness.errors.re}]",
    ),
    *("fäße", "'貓'", "'\x1b[31mred'", "'a\nb'", "'a\tb'", "'\x00'", "\x00", "'\udcff'", "'a\u202eb'"),
    *("~", "~nouser", "~nouser/a", "..", "/", "/dev/null", "'a\\b'", "C:\\x", "'*'", "'{subject}'"),
    *("'{unknown}'", "'{'", "'{subject:99999999999d}'", "'{subject.real}'", "'[a'", "'**'", "'a/**b'"),
    *("${seed}", "${nowhere}", "${cv}", "${estimator._target_}", "${oc.env:NOWHERE}", "${nothing:1}", "${"),
    *(r"'\${seed}'", r"'\${oc.create:{_target_:os.getcwd}}'", r"'\${nowhere}'", "???", "'???'"),
    *("1,2", "a,b", "a,", ",", "range(1,3)", "range(3)", "range(1,2,0)", "range(0,1e12)", "range(a)"),
    *("glob(*)", "glob(x)", "choice(1,a)", "choice()", "interval(0,1)", "shuffle(1,2)", "int(1)", "str(1)"),
    *("a b", "a=b", "=", "[", "{", "]", "'", '"', "\\", "$", "!!python/object/apply:os.getcwd []", "%s"),
    *("own", "train", "face", "accuracy", "[accuracy]", "server", "off", "http://127.0.0.1:1", "sklearn."),
    *("sklearn..svm", "sklearn.svm", "sklearn.svm.LinearSVC", "sklearn.model_selection.KFold", "harness.x"),
    *("harness.datasets.recording.Dataset", "sklearn.model_selection.BaseCrossValidator", "sklearn.\x00"),
)
# Accepted by scikit-learn, but too slow for a test: numbers at which liblinear does not end, and processes.
EXTREME = re.compile(r"1e-?300|inf|9{20}|n_jobs")
# Forms of a key.
FORMS = (
    "{}",
    "+{}",
    "++{}",
    "~{}",
    "{}.a",
    "{}._target_",
    "{}.0",
    "{}@a",
    "{}/a",
    "{}.a.b",
    "{} ",
    ".{}",
    "{}.",
)
# Words of Hydra, OmegaConf and Python that do not help a user.
LEAKS = re.compile(
    r"mismatched input|extraneous|<EOF>|LexerNo|token recognition|object_type|reference_type|DictConfig"
    r"|ListConfig|Schema\b|NodeType|defaults list|default list|Error merging|Error parsing|Traceback"
    r"|of type '\w+' could not be converted|AnyNode|NoneType|ConfigComposition|Could not override"
    r"|not subscriptable|object is not|has no attribute|_DeferredTarget|unhashable"
)


def list_options():
    """Return every group with the names of its options."""
    return {
        item.name: sorted(file.stem for file in (CONF / item.name).glob("*.yaml"))
        for item in fields(RunSchema)
        if is_dataclass(item.default_factory) or item.default_factory is dict
    }


def flatten(node, prefix):
    """Return the dotted keys of a mapping, those of mappings inside it too."""
    for key, value in node.items():
        yield f"{prefix}.{key}"
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}.{key}")


def list_keys():
    """Return every key that a run has, with the option of its group that has it."""
    keys = {(item.name, "") for item in fields(RunSchema)}
    for item in fields(RunSchema):
        if is_dataclass(item.default_factory):
            keys |= {(f"{item.name}.{part.name}", "") for part in fields(item.default_factory)}
    for group, options in list_options().items():
        # Contrasts differ in nothing but words.
        for option in options[:3] if group == "contrast" else options:
            content = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml"))
            chosen = f"{group}={option}"
            keys |= {(key, chosen) for key in flatten(content, group)}
            if "_target_" in content:
                built = inspect.signature(import_allowed_class(group, content["_target_"]))
                keys |= {(f"{group}.{name}", chosen) for name in built.parameters}
    for group in ("cv", "estimator", "dataset"):
        keys |= {(f"{group}.{name}", "") for name in ("_args_", "_partial_", "memory", "n_splits", "grid.C")}
    keys |= {("hydra.run.dir", ""), ("hydra/launcher", ""), ("hydra.launcher.n_jobs", ""), ("nothing", "")}
    return sorted(keys)


def draw_cases(n_cases):
    """Draw requests so that every key and every value comes up equally often."""
    rng = np.random.default_rng(SEED)
    keys = list_keys()
    rounds = -(-n_cases // len(keys))
    drawn = [keys[index] for _ in range(rounds) for index in rng.permutation(len(keys))]
    values = [
        VALUES[index] for _ in range(-(-n_cases // len(VALUES))) for index in rng.permutation(len(VALUES))
    ]
    cases = []
    for (key, chosen), value in zip(drawn[:n_cases], values, strict=False):
        form = "{}" if rng.random() < 0.8 else FORMS[rng.integers(len(FORMS))]
        typed = form.format(key) + ("" if form == "~{}" and rng.random() < 0.5 else f"={value}")
        cases.append([*([chosen] if chosen else []), typed])
    return cases


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_subject):
    """Return what goes before a request so that its subject has 48 volumes and is decoded in no time."""
    tiny = tiny_subject()
    home = tiny / "haxby2001" / "subj1"
    table = tiny / "labels.tsv"
    table.write_text(
        (home / "labels.txt").read_text().replace("labels chunks", "condition\trun").replace(" ", "\t")
    )
    files = [f"++dataset.bold={home / 'bold.nii.gz'}", f"++dataset.labels={table}"]
    quick = ["scoring.inner_folds=2", "tracking.folder=unwritten"]
    return {
        "haxby": ["dataset=haxby", f"++dataset.data_dir={tiny}", "subject=1", *quick],
        "nifti": [
            "dataset=nifti",
            *files,
            f"++dataset.masks.vt={home / 'mask4_vt.nii.gz'}",
            "subject=1",
            *quick,
        ],
        "bids": ["dataset=bids", f"++dataset.root={tiny}", *quick],
        "simulated": ["dataset=simulated", *quick],
    }


def complete(case, bases):
    """Put the words before a case that make a whole request of it."""
    dataset = next((word.removeprefix("dataset=") for word in case if word.startswith("dataset=")), "haxby")
    base = bases.get(dataset, bases["haxby"])
    scheme = [] if any(re.match(r"[+~.]*cv\b", word) for word in case) else ["cv=kfold5", "++cv.n_splits=3"]
    return [*base, *scheme, *case]


def answer(words):
    """Return what is wrong with the end of a request: None for a result, or a message without leaks."""
    try:
        for request in compose_requests(words)[:2]:
            if EXTREME.search(words[-1]) and type(request.question.estimator.model).__module__.startswith(
                "sklearn"
            ):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decode_request(request)
    except HarnessError as error:
        leak = LEAKS.search(str(error))
        return f"leaks {leak.group()!r}: {error}" if leak else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def find_faults(cases, bases, monkeypatch, tmp_path):
    from harness.errors import DataError

    def no_download(directory, subject, available=()):
        raise DataError("no connection")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("harness.datasets.haxby_download.download_subject", no_download)
    return {" ".join(case): fault for case in cases if (fault := answer(complete(case, bases)))}


def name_case(words):
    return " ".join(words)[:40].replace("\x00", "NUL")


# Wrong values, typed after `python -m harness`.
WRONG = [
    *(["estimator=5"], ["cv=true"], ["tracking=null"], ["roi=5"], ["hydra=1"], ["hydra/launcher=7"]),
    *(["dataset=[null]"], ["scoring=[inf]"], ["contrast=[[null]]"], ["contrast=[{a:[face]},{b:[cat]}]"]),
    *(
        ["estimator=5,svc"],
        ["estimator=null"],
        ["-m", "estimator=5,svc"],
        ["-m", "estimator=choice(5,svc)"],
        ["estimator=[svc,lda]"],
    ),
    *(["~estimator"], ["~subject"], ["~roi.mask"], ["estimator@foo=svc"], [f"estimator={LONG}"]),
    *(
        ["signal.confounds._target_=lda"],
        ["signal.confounds.0=a"],
        ["-m", "signal.confounds.a=b,c"],
        ["contrast.conditions.a=b"],
    ),
    *(["dataset=haxby", f"dataset.data_dir={value}"] for value in ("5", "[1]", "false", "{a:1}")),
    *(
        ["roi.mask=~nouser"],
        [f"roi.mask={LONG}"],
        ["roi.mask='\x00'"],
        [f"contrast.conditions=[{LONG},cat]"],
    ),
    *(["cv.random_state=glob(*)"], ["-m", "cv.random_state=glob(*)"], ["-m", "subject=range(0,1e12)"]),
    *(
        ["subject=two"],
        ["subject=1,2"],
        ["subject=1,two"],
        ["subject="],
        ["subject"],
        ["=5"],
        ["subject=${a"],
    ),
    *(["subject=${nowhere}"], ["subject=${cv}"], ["roi.mask=${roi.mask}"], ["subject=???"]),
    *(["subject=a=b"], ["subject='"], ["+subject=3"], ["+estimator=svc"], ["nothing=1"], ["+nothing=1"]),
    *(
        ["estimator.tol=a"],
        ["estimator.grid.C=[a]"],
        ["estimator.grid.C=[true]"],
        ["estimator.max_iter=1.5"],
    ),
    *(
        ["estimator=svc_liblinear", "estimator.tol=a"],
        ["estimator=svc_liblinear", "estimator.grid.C=[a]"],
    ),
    *(["cv=holdout30", "cv.n_volumes=a"], ["cv=kfold5", "cv.n_splits=a"]),
]
# Those of the default suite; the others are slow.
QUICK = [
    *(["estimator=5"], ["dataset=[null]"], ["-m", "estimator=5,svc"], ["~subject"], [f"roi.mask={LONG}"]),
    *(["subject="], ["subject"], ["subject=${nowhere}"], ["subject=???"], ["+nothing=1"]),
    *(["estimator.grid.C=[a]"], ["contrast.conditions.a=b"]),
]


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, marks=[] if words in QUICK else [pytest.mark.slow]) for words in WRONG],
    ids=name_case,
)
def test_the_command_refuses_a_wrong_value_with_one_message(words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([*words, "tracking.folder=here"]) in (1, 2)
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert not LEAKS.search(message)


@pytest.mark.usefixtures("quick_composition")
def test_no_value_ends_in_a_traceback(bases, monkeypatch, tmp_path):
    assert find_faults(draw_cases(12), bases, monkeypatch, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_composition")
def test_no_value_of_any_key_ends_in_a_traceback(bases, monkeypatch, tmp_path):
    assert find_faults(draw_cases(N_CASES), bases, monkeypatch, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_composition")
def test_every_class_of_scikit_learn_ends_in_a_result_or_a_message(bases, monkeypatch, tmp_path):
    """As an estimator, with another as its argument if it takes one, and as a scheme."""
    cases = []
    for _, kind in all_estimators():
        target = f"estimator._target_={kind.__module__}.{kind.__qualname__}"
        inner = "{_target_:sklearn.svm.LinearSVC}" if "estimator" in list_arguments(kind) else None
        nested = [] if inner is None else [f"estimator.estimator={inner}"]
        cases.append(["cv=holdout30", "cv.n_volumes=10", "estimator=lda", *nested, target])
    for name in model_selection.__all__:
        kind = getattr(model_selection, name, None) if "Halving" not in name else None
        if hasattr(kind, "split"):
            cases.append(["cv=logo", f"cv._target_=sklearn.model_selection.{name}"])
    assert len(cases) > 200
    faults = find_faults(cases, bases, monkeypatch, tmp_path)
    # What scikit-learn itself answers may be in words of Python.
    assert {case: fault for case, fault in faults.items() if not fault.startswith("leaks")} == {}
