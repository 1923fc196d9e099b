"""Small subjects on disk, and samples without any file."""

import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings

from harness.app.composition import compose_request
from harness.samples.blocks import find_blocks
from harness.samples.contrasts import make_contrast
from harness.samples.samples import FoldPreprocessing, Samples, load_samples
from services import require_data

# A shell starts background jobs with SIGINT ignored, and every process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# CI draws more examples; tests that set their own number keep it.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])

# The files and the mask of each of nilearn's results in ../shared/golden.
GOLDEN = {
    "vt577": ("haxby2001-vt", "vt"),
    "slice98": ("haxby2001-slice", "vt"),
    "slice530": ("haxby2001-slice", "brain"),
}


@pytest.fixture
def rng():
    return np.random.default_rng(20010928)


@pytest.fixture(scope="session")
def shared_data():
    """The directory of real Haxby data in HARNESS_TEST_DATA, or in ``shared`` next to the checkout."""
    directory = Path(os.environ.get("HARNESS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    require_data(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_subject(tmp_path_factory):
    """Write subject 1 in Haxby's layout, and return the directory for ``dataset.data_dir``.

    Every run shows every condition once, in blocks with a resting volume before each, the order rotating
    from run to run. `planted` adds `effect` (noise has SD 20) to one voxel while one condition is shown.
    """

    def write(
        shape=(6, 5, 4),
        n_runs=4,
        conditions=("face", "cat", "house"),
        block=4,
        planted=None,
        effect=200,
        affine=AFFINE,
        seed=7,
    ):
        rng = np.random.default_rng(seed)
        shown, runs = [], []
        for run in range(n_runs):
            for position in range(len(conditions)):
                condition = conditions[(position + run) % len(conditions)]
                shown += ["rest"] + [condition] * block
                runs += [run] * (block + 1)
        bold = rng.normal(1000, 20, (*shape, len(shown)))
        bold += 5 * np.array(runs)  # an offset per run, as scanners have
        for condition, voxel in (planted or {}).items():
            bold[voxel] += effect * (np.array(shown) == condition)
        vt = np.zeros(shape, dtype=np.uint8)
        vt[: shape[0] // 2 + 1] = 1

        data_dir = tmp_path_factory.mktemp("tiny")
        home = data_dir / "haxby2001" / "subj1"
        home.mkdir(parents=True)
        nib.save(nib.Nifti1Image(bold.round().astype(np.int16), affine), home / "bold.nii.gz")
        nib.save(nib.Nifti1Image(vt, affine), home / "mask4_vt.nii.gz")
        nib.save(nib.Nifti1Image(np.ones(shape, dtype=np.uint8), affine), home.parent / "mask.nii.gz")
        lines = ["labels chunks", *(f"{name} {run}" for name, run in zip(shown, runs, strict=True))]
        (home / "labels.txt").write_text("\n".join(lines) + "\n")
        return data_dir

    return write


@pytest.fixture(scope="session")
def make_samples():
    """Build samples from arrays."""

    def make(X, y, runs, contrast=None, preparation=None):
        y = np.asarray(y, dtype=str)
        return Samples(
            X=np.asarray(X, dtype=np.float32),
            y=y,
            runs=np.asarray(runs),
            conditions=y,
            volumes=np.arange(len(y)) * 2 + 1,
            blocks=find_blocks(y, np.asarray(runs)),
            contrast=contrast or make_contrast(list(dict.fromkeys(y.tolist()))),
            preparation=preparation or FoldPreprocessing(),
        )

    return make


@pytest.fixture(scope="session", autouse=True)
def simulated_cache(tmp_path_factory):
    """Use a temporary cache, not that of the user who runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def compose():
    """Return a function from overrides to the run that they specify."""

    return lambda *overrides: compose_request(list(overrides))


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Return a function that opens a new run store: a copy, because to make one takes 68 migrations."""
    from mlflow.tracking import MlflowClient

    from harness.tracking.store import local_uri, open_store

    template = tmp_path_factory.mktemp("store template")
    MlflowClient(tracking_uri=local_uri(template)).search_experiments()

    def make(folder, experiment="tests"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(template / "mlflow.db", folder)
        return open_store(None, folder, experiment)

    return make


# Studies in other layouts -----------------------------------------------------------------------------------

STUDY_T_R = 2.0  # seconds
STUDY_BLOCK = ("rest", "face", "face", "face", "face", "rest", "cat", "cat", "cat", "cat", "rest")


@pytest.fixture(scope="session")
def run_of_study():
    """Return a function to one scanner run: its image of 33 volumes, and the condition of each of them."""

    def make(subject, run, shape=(6, 5, 4)):
        rng = np.random.default_rng([subject, run])
        order = STUDY_BLOCK if run % 2 else STUDY_BLOCK[::-1]
        shown = [*order, *("house" if name == "cat" else name for name in order), *order]
        bold = rng.normal(1000, 20, (*shape, len(shown)))
        bold[0, 0] += 160 * (np.array(shown) == "face")  # four voxels, eight standard deviations
        image = nib.Nifti1Image(bold.round().astype(np.int16), AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((*image.header.get_zooms()[:3], STUDY_T_R))
        return image, shown

    return make


@pytest.fixture(scope="session")
def events_of():
    """Write the conditions of all volumes as a BIDS events.tsv: one event per block."""

    def write(path, shown, t_r=STUDY_T_R):
        lines = ["onset\tduration\ttrial_type"]
        start = 0
        for volume in range(1, len(shown) + 1):
            if volume == len(shown) or shown[volume] != shown[start]:
                if shown[start] != "rest":
                    lines.append(f"{start * t_r}\t{(volume - start) * t_r}\t{shown[start]}")
                start = volume
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    return write


@pytest.fixture
def nifti_study(tmp_path, run_of_study, events_of):
    """Write subjects 1 and 2, of three runs, and return the directory.

    ``sub-01`` holds ``run-0.nii.gz`` and so on, ``all.nii.gz``, ``labels.tsv``, ``events-0.tsv``,
    ``confounds-0.tsv`` and ``vt.nii.gz``.
    """
    for subject in (1, 2):
        home = tmp_path / "study" / f"sub-{subject:02d}"
        home.mkdir(parents=True)
        images, lines = [], ["run\tcondition"]
        for run in range(3):
            image, shown = run_of_study(subject, run)
            nib.save(image, home / f"run-{run}.nii.gz")
            events_of(home / f"events-{run}.tsv", shown)
            (home / f"confounds-{run}.tsv").write_text(
                "\n".join(["drift", *(str(volume + run) for volume in range(len(shown)))]) + "\n"
            )
            images.append(image)
            lines += [f"{run}\t{name}" for name in shown]
        nib.save(nib.concat_images(images, axis=3), home / "all.nii.gz")
        (home / "labels.tsv").write_text("\n".join(lines) + "\n")
        vt = np.zeros((6, 5, 4), dtype=np.uint8)
        vt[:3] = 1
        nib.save(nib.Nifti1Image(vt, AFFINE), home / "vt.nii.gz")
    return tmp_path / "study"


@pytest.fixture
def bids_study(tmp_path, run_of_study, events_of):
    """Return a function that writes a BIDS data set with fMRIPrep's derivatives, and returns its root.

    Subjects 1 and 2, runs 1 and 2. The brain masks of the runs differ in one voxel each.
    """

    def write(labels=("01", "02"), tasks=("objects",), sessions=(None,), spaces=("space-T1w",), runs=(1, 2)):
        root = tmp_path / "ds000999"
        derivatives = root / "derivatives" / "fmriprep"
        for subject, label in enumerate(labels, start=1):
            for session in sessions:
                for task in tasks:
                    for run in runs:
                        folders = [f"sub-{label}", *([f"ses-{session}"] if session else []), "func"]
                        raw, made = root.joinpath(*folders), derivatives.joinpath(*folders)
                        stem = "_".join([*folders[:-1], f"task-{task}", f"run-{run}"])
                        image, shown = run_of_study(subject, run)
                        events_of(raw / f"{stem}_events.tsv", shown)
                        made.mkdir(parents=True, exist_ok=True)
                        _write_confounds(made / f"{stem}_desc-confounds_timeseries.tsv", run, len(shown))
                        brain = np.ones((6, 5, 4), dtype=np.uint8)
                        brain[5, 4, run % 4] = 0
                        for space in spaces:
                            full = f"{stem}_{space}" if space else stem
                            nib.save(image, made / f"{full}_desc-preproc_bold.nii.gz")
                            nib.save(nib.Nifti1Image(brain, AFFINE), made / f"{full}_desc-brain_mask.nii.gz")
            anat = derivatives / f"sub-{label}" / "anat" / f"sub-{label}_desc-preproc_T1w.nii.gz"
            anat.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(np.ones((6, 5, 4), dtype=np.uint8), AFFINE), anat)
        for task in tasks:
            (root / f"task-{task}_bold.json").write_text('{"RepetitionTime": 2.0}')
        return root

    return write


def _write_confounds(path, run, n_volumes):
    """Write a table as fMRIPrep does: a derivative that begins with n/a, an outlier that one run has."""
    outlier = ["motion_outlier00"] if run == 2 else []
    lines = ["\t".join(["trans_x", "trans_x_derivative1", *outlier])]
    for volume in range(n_volumes):
        move = np.sin(volume + run)
        step = "n/a" if volume == 0 else f"{move - np.sin(volume - 1 + run):.6f}"
        lines.append(
            "\t".join([f"{move:.6f}", step, *(["1.0" if volume == 5 else "0.0"] if outlier else [])])
        )
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def golden(shared_data):
    """nilearn's own results, by data set, contrast and estimator."""
    answers = {}
    for name in GOLDEN:
        file = shared_data.parent / "golden" / f"{name}.json"
        require_data(file)
        for run in json.loads(file.read_text())["runs"]:
            answers[name, tuple(run["contrast"]), run["estimator"]] = run
    return answers


@pytest.fixture(scope="session")
def load_golden(compose, shared_data):
    """Return a function to the question and the samples of one of nilearn's results."""

    def load(name, contrast, estimator):
        folder, roi = GOLDEN[name]
        spec = compose(
            "dataset=haxby",
            f"dataset.data_dir={shared_data / folder}",
            "subject=1",
            f"roi={roi}",
            f"contrast.conditions=[{','.join(contrast)}]",
            f"estimator={estimator}",
        )
        question = spec.question
        samples = load_samples(spec.dataset.load(1), question.contrast, question.roi, question.signal)
        return question, samples

    return load


@pytest.fixture(scope="session")
def load_face_cat(shared_data):
    """Return a function to z-scored X, y of -1 (cat) and +1 (face), and runs; none of the harness's code."""

    def load(name):
        folder = shared_data / name / "haxby2001" / "subj1"
        table = np.loadtxt(folder / "labels.txt", dtype=str, skiprows=1)
        chosen = np.isin(table[:, 0], ("face", "cat"))
        inside = np.asarray(nib.load(folder / "mask4_vt.nii.gz").dataobj) > 0
        X = np.asarray(nib.load(folder / "bold.nii.gz").dataobj)[inside].T[chosen].astype(np.float64)
        X = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
        return X, np.where(table[chosen, 0] == "face", 1.0, -1.0), table[chosen, 1].astype(int)

    return load
