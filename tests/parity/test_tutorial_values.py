"""The published values of the tutorial: those that labels decide, and, on the real images, all of them."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import get_data_dirs

from harness.app.tutorial import read_published_values
from harness.datasets.haxby import read_labels
from harness.decoding.evaluation import evaluate
from harness.samples.blocks import find_blocks
from harness.samples.contrasts import make_contrast, select_volumes
from harness.samples.samples import FoldPreprocessing, Samples
from processes import harness

SHAPE, N_VOXELS = (40, 64, 64), 464  # of the images and the mask of subject 2


@pytest.fixture(scope="module")
def published():
    """The published values by section and quantity."""
    sections = read_published_values().sections
    return {(name, value.quantity): value.values for name in sections for value in sections[name]}


@pytest.fixture(scope="module")
def labels(shared_data):
    return read_labels(shared_data / "labels" / "subj2" / "labels.txt")


def test_labels_of_subject_2_are_the_tutorial_sequence(labels, published):
    _, y = select_volumes(make_contrast(["face", "cat"]), labels["condition"].to_numpy(str), "labels.txt")
    assert tuple(y) == published["fit_on_all", "label_sequence"]
    assert published["fit_on_all", "n_samples"] == (len(y),)
    assert published["fit_on_all", "class_counts"] == (np.sum(y == "cat"), np.sum(y == "face"))


def test_dummy_reproduces_the_tutorial_row(compose, labels, published, rng):
    """The dummy looks at labels alone, so that any voxels will do."""
    contrast = make_contrast(["face", "cat"])
    volumes, y = select_volumes(contrast, labels["condition"].to_numpy(str), "labels.txt")
    question = compose("estimator=dummy", "cv=logo").question
    samples = Samples(
        X=rng.normal(size=(len(y), 3)).astype(np.float32),
        y=y,
        runs=labels["run"].to_numpy()[volumes],
        conditions=y,
        volumes=volumes,
        blocks=find_blocks(labels["condition"].to_numpy(str), labels["run"].to_numpy())[volumes],
        contrast=contrast,
        preparation=FoldPreprocessing(zscore="own"),
    )
    evaluation = evaluate(samples, question.estimator, question.scheme, question.scoring)
    np.testing.assert_allclose(
        evaluation.folds["selected_roc_auc"], published["dummy", "selected_roc_auc"], rtol=0, atol=1e-12
    )


@pytest.fixture(scope="module")
def noise_subject(shared_data, tmp_path_factory):
    """Write subject 2 with its real labels and noise in a mask of its size; return ``dataset.data_dir``."""
    data_dir = tmp_path_factory.mktemp("noise")
    home = data_dir / "haxby2001" / "subj2"
    home.mkdir(parents=True)
    text = (shared_data / "labels" / "subj2" / "labels.txt").read_bytes()
    (home / "labels.txt").write_bytes(text)
    n_volumes = len(text.splitlines()) - 1
    mask = np.zeros(SHAPE, dtype=np.uint8, order="F")
    mask.reshape(-1, order="F")[1000 : 1000 + N_VOXELS] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), home / "mask4_vt.nii.gz")
    rng = np.random.default_rng(20010928)
    header = nib.Nifti1Image(np.zeros((1, 1, 1, 1), dtype=np.uint8), np.eye(4)).header
    header.set_data_shape((*SHAPE, n_volumes))
    with gzip.open(home / "bold.nii.gz", "wb", compresslevel=1) as file:  # volume by volume: 238 MB in all
        file.write(header.binaryblock + bytes(4))
        for _ in range(n_volumes):
            volume = np.zeros(SHAPE, dtype=np.uint8, order="F")
            volume.reshape(-1, order="F")[1000 : 1000 + N_VOXELS] = rng.integers(80, 120, N_VOXELS)
            file.write(volume.tobytes(order="F"))
    return data_dir


@pytest.mark.slow
def test_what_labels_and_masks_decide_is_equal_without_the_images(noise_subject, tmp_path):
    """Through the command line, as with the real images; what they decide differs."""
    words = ["dataset=haxby", f"dataset.data_dir={noise_subject}", "subject=2", "figures=off"]
    process = harness(tmp_path, "tutorial", *words, "--json", check=False)
    assert process.returncode == 1, process.stderr
    verdicts = {}
    for cell in json.loads(process.stdout)["cells"]:
        verdicts.setdefault((cell["section"], cell["quantity"]), set()).add(cell["verdict"])
    for section, quantity in (
        *(("fit_on_all", name) for name in ("n_samples", "image_shape", "class_order", "class_counts")),
        *(("fit_on_all", "label_sequence"), ("coefficients", "n_voxels"), ("coefficients", "coef_shape")),
        ("dummy", "selected_roc_auc"),
    ):
        assert verdicts[section, quantity] == {"equal"}, quantity
    assert verdicts["coefficients", "coef"] == {"differs"}
    assert "differs" in verdicts["leave_one_run_out", "selected_roc_auc"]
    assert verdicts["predicted_volumes", "test_accuracy"] == {"not applicable"}


def real_subject_2() -> bool:
    return any((Path(root) / "haxby2001" / "subj2" / "bold.nii.gz").is_file() for root in get_data_dirs())


@pytest.mark.haxby
@pytest.mark.slow
@pytest.mark.skipif(not real_subject_2(), reason="the real subject 2 is not in nilearn's data directories")
def test_every_number_of_the_tutorial(tmp_path):
    process = harness(tmp_path, "tutorial", "dataset=haxby", "subject=2", "--json", check=False)
    assert process.stdout, process.stderr
    wrong = [cell for cell in json.loads(process.stdout)["cells"] if cell["verdict"] in ("differs", "no run")]
    assert wrong == []
    assert process.returncode == 0
