"""Small subjects on disk, and samples without any file."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module

from harness.app import build_request
from harness.contrasts import make_contrast
from harness.samples import Preparation, Samples

AFFINE = np.array([[-3.5, 0, 0, 68.25], [0, 3.75, 0, -118.1], [0, 0, 3.75, -118.1], [0, 0, 0, 1]])


@pytest.fixture
def rng():
    return np.random.default_rng(20010928)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real Haxby data that is shared beside the repository, or HARNESS_TEST_DATA."""
    folder = Path(os.environ.get("HARNESS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; HARNESS_TEST_DATA says where they are")
    return folder


@pytest.fixture(scope="session")
def tiny_subject(tmp_path_factory):
    """Write subject 1 in Haxby's layout, and return the folder that ``dataset.data_dir`` takes.

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
    """Build samples from arrays; their voxels fill a box in C order, after one voxel that is outside."""

    def make(X, y, runs, contrast=None, preparation=None, affine=AFFINE):
        X, y = np.asarray(X, dtype=np.float32), np.asarray(y, dtype=str)
        mask = np.zeros(4 * 3 * (X.shape[1] // 12 + 1), dtype=bool)
        mask[1 : X.shape[1] + 1] = True
        mask = mask.reshape(-1, 4, 3)
        return Samples(
            X=X,
            y=y,
            runs=np.asarray(runs),
            conditions=y,
            volumes=np.arange(len(y)) * 2 + 1,
            contrast=contrast or make_contrast(list(dict.fromkeys(y.tolist()))),
            preparation=preparation or Preparation(),
            mask=mask,
            affine=affine,
            mean_volume=np.ones(mask.shape, dtype=np.float32),
            digests={},
        )

    return make


@pytest.fixture(scope="session", autouse=True)
def simulated_cache(tmp_path_factory):
    """Keep what the harness makes itself out of the cache of the person who runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def compose():
    """Return a function from overrides to the request that they make."""

    def build(*overrides):
        with initialize_config_module("harness.conf", version_base="1.3"):
            config = hydra_compose("config", list(overrides), return_hydra_config=True)
        choices = config.hydra.runtime.choices
        del config._content["hydra"]
        return build_request(config, choices, overrides)

    return build
