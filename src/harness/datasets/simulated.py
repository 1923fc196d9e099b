"""Simulated data in Haxby's file layout, which the loader of the measured data reads.

Six subjects see eight categories in twelve runs of 121 volumes, as in Haxby et al. (2001) [1]_. The brain
is the MNI152 template of nilearn, cut to a slab over ventral temporal cortex. The tutorial's
question is calibrated: face against cat is hard (0.81), face against house is easy (0.97), and noise is at
chance; accuracy of leave-one-run-out with LinearSVC(C=100), mean of the six subjects of version 1, seed 0.

References
----------
.. [1] Haxby et al. (2001), Science 293:2425-2430, doi:10.1126/science.1063736.
"""

import math
import shutil
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock
from nibabel.nifti1 import Nifti1Image
from scipy.special import gammainc

from harness.datasets.haxby import BRAIN_FILE, SUBJECT_FILES, SUBJECTS, T_R, list_missing, read_subject
from harness.datasets.locations import cache_directory, expand_path
from harness.datasets.options import check_options
from harness.datasets.recording import Recording
from harness.errors import DataError, UsageError

# Part of the cache directory's name: raise it when the bytes change.
VERSION = 1
CONDITIONS = ("bottle", "cat", "chair", "face", "house", "scissors", "scrambledpix", "shoe")

SPACE = "MNI152NLin2009aSym"  # that of nilearn's template, which all subjects share
NOTICE = "These data are SIMULATED, not a measurement of any brain; dataset=haxby loads measured data."

N_RUNS = 12
RUN_VOLUMES = 121
BLOCK_VOLUMES = 9
BLOCK_STARTS = (6, 21, 35, 49, 63, 78, 92, 106)
# Haxby's labels follow the stimulus by about one volume, to allow for the haemodynamic delay.
STIMULUS_LEAD = 4.0  # seconds
STIMULUS_LENGTH = 24.0  # seconds

ANAT_SIZE = 2  # mm
VOXEL_SIZE = 4  # mm
SLAB = (-29, -1)  # mm, MNI z: ventral temporal cortex lies between

GREY_T1 = 0.62  # intensity of grey matter in the template, whose maximum is 1

# Categories of one group share a pattern, so that face is closer to cat than to house.
GROUPS = {
    "bottle": "tool",
    "cat": "animate",
    "chair": "furniture",
    "face": "animate",
    "house": "place",
    "scissors": "tool",
    "scrambledpix": "texture",
    "shoe": "tool",
}
# Faces lie lateral and places medial in the fusiform gyrus (Grill-Spector & Weiner 2014, Nat Rev Neurosci).
LATERALITY = {"face": 1.0, "cat": 1.0, "house": -1.0, "chair": -0.5}

# All amplitudes are in percent of a voxel's mean.
VISUAL_RESPONSE = 1.0
LATERAL_RESPONSE = 0.25
GROUP_RESPONSE = 0.45
OWN_RESPONSE = 0.20
NOISE = 1.1
DRIFT = 0.6
OFFSET = 0.7
RHO = 0.6  # correlation of the noise from one volume to the next
NEIGHBOUR = 0.35  # weight of the adjacent voxels in the noise


@dataclass(frozen=True)
class Simulated:
    """Simulated recordings of six subjects, written to a cache directory at first use.

    Parameters
    ----------
    seed : int
        Another seed is another set of six subjects; not negative.
    cache_dir : str or Path, optional
        By default `harness.datasets.locations.cache_directory`.
    """

    seed: int = 0
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        check_options(self)

    def load(self, subject: int) -> Recording:
        """Return the recording of one subject, 1 to 6; it is simulated unless it is in the cache."""
        directory = write_subject(self.directory(), subject, self.seed)
        return read_subject(directory.parent, subject, dataset="simulated", notice=NOTICE, space=SPACE)

    def directory(self) -> Path:
        """Return the directory of these six subjects, ``haxby2001`` is in it."""
        cache = (
            cache_directory() if self.cache_dir is None else expand_path("dataset.cache_dir", self.cache_dir)
        )
        return cache / f"simulated-v{VERSION}-seed{self.seed}"


def write_subject(root: Path, subject: int, seed: int = 0) -> Path:
    """Write one subject in Haxby's layout, unless it exists, and return ``root/haxby2001/subjN``.

    This directory appears when it is complete. Seed, subject and `VERSION` determine the bytes.

    Parameters
    ----------
    subject : int
        1 to 6.
    seed : int
        Not negative.

    Raises
    ------
    DataError
        If the subject does not exist, `root` cannot be written, or the subject's directory lacks files.
    UsageError
        If the seed is negative.
    """
    if subject not in SUBJECTS:
        raise DataError(
            f"subject={subject!r} does not exist in the simulated data, which have subjects "
            f"{SUBJECTS[0]} to {SUBJECTS[-1]}; choose one of these, for example subject=1"
        )
    if seed < 0:
        raise UsageError(f"dataset.seed={seed!r} is negative; expected 0 or a larger integer")
    home = root / "haxby2001"
    directory = home / f"subj{subject}"
    if _is_whole(directory):
        return directory
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Processes that start together would otherwise all simulate the subject.
        with FileLock(home / f".subj{subject}.lock"):
            if not _is_whole(directory):
                _write_whole(directory, subject, seed)
    # A file system without locks makes filelock raise NotImplementedError.
    except (OSError, NotImplementedError) as error:
        raise DataError(
            f"the simulated data cannot be written to {home} ({error}); free about 20 MB there, "
            "or name another directory with the environment variable HARNESS_CACHE"
        ) from error
    return directory


def _is_whole(directory: Path) -> bool:
    """Return whether a subject and the shared brain mask exist."""
    if not directory.is_dir():
        return False
    if missing := list_missing(directory, SUBJECT_FILES):
        raise DataError(
            f"{directory} lacks {', '.join(missing)}; delete this directory, "
            "and the next run simulates the subject again"
        )
    return (directory.parent / BRAIN_FILE).is_file()


def _write_whole(directory: Path, subject: int, seed: int) -> None:
    """Write mask and subject under a temporary name, then give them their own."""
    temporary = directory.with_name(f".{directory.name}-unfinished")
    # The caller holds the lock, so a killed process left this.
    shutil.rmtree(temporary, ignore_errors=True)
    slab = _slab()
    try:
        temporary.mkdir()
        shared_mask = directory.with_name(BRAIN_FILE)
        if not shared_mask.is_file():
            mask = temporary / BRAIN_FILE
            _write_image(mask, slab.brain.astype(np.uint8), slab.affine)
            mask.replace(shared_mask)
        if not directory.is_dir():
            _write_files(temporary, slab, subject, seed)
            temporary.replace(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class _Slab:
    """The anatomy of all subjects: a slab, and the T1 image of the whole brain."""

    affine: np.ndarray  # from voxels of the slab to MNI mm
    brain: np.ndarray  # bool, of shape (x, y, z), with n_brain voxels
    mean: np.ndarray  # mean BOLD signal in arbitrary units, of shape (n_brain,)
    mm: np.ndarray  # MNI coordinates, of shape (n_brain, 3)
    grey: np.ndarray  # similarity to grey matter, 0 to 1, of shape (n_brain,)
    anat: np.ndarray  # uint8
    anat_affine: np.ndarray  # from voxels of `anat` to MNI mm


@lru_cache(maxsize=1)  # constant, and takes most of the time of a small simulation
def _slab() -> _Slab:
    """Cut the slab out of the MNI152 template."""
    # Slow to import, and needed only if a subject is not in the cache.
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=ANAT_SIZE)
    T1 = template.get_fdata(dtype=np.float32)
    # nilearn draws its brain mask at the same value.
    T1 = np.where(T1 > 0.2, T1, np.float32(0))
    fine = np.asarray(template.affine)

    # A slab voxel is a block of template voxels, so that nothing is interpolated.
    ratio = VOXEL_SIZE // ANAT_SIZE
    bottom, top = (round((edge + ANAT_SIZE / 2 - fine[2, 3]) / ANAT_SIZE) for edge in SLAB)
    shape = (T1.shape[0] // ratio, T1.shape[1] // ratio, (top - bottom) // ratio)
    blocks = T1[: shape[0] * ratio, : shape[1] * ratio, bottom:top].reshape(
        shape[0], ratio, shape[1], ratio, shape[2], ratio
    )
    filled = (blocks > 0).mean(axis=(1, 3, 5), dtype=np.float32)
    brain = filled > 0.6
    inside = np.argwhere(brain.any(axis=2))
    low, high = inside.min(axis=0) - 1, inside.max(axis=0) + 2
    window = (slice(low[0], high[0]), slice(low[1], high[1]), slice(None))
    brain = brain[window]
    tissue = blocks.mean(axis=(1, 3, 5))[window][brain] / filled[window][brain]

    affine = np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0])
    first = np.array([low[0] * ratio, low[1] * ratio, bottom]) + (ratio - 1) / 2
    affine[:3, 3] = fine[:3, 3] + ANAT_SIZE * first
    mm = np.argwhere(brain) * VOXEL_SIZE + affine[:3, 3]
    return _Slab(
        affine=affine,
        brain=brain,
        # T2*-weighted: the inverted contrast of a T1 image.
        mean=(1600 - 1000 * tissue).astype(np.float32),
        mm=mm.astype(np.float32),
        grey=np.clip(1 - np.abs(tissue - GREY_T1) / 0.3, 0, 1).astype(np.float32),
        anat=np.round(255 * T1 / T1.max()).astype(np.uint8),
        anat_affine=fine,
    )


def _write_files(directory: Path, slab: _Slab, subject: int, seed: int) -> None:
    """Write all files of one subject into an existing directory."""
    anatomy, design, *runs = (
        np.random.default_rng(stream)
        for stream in np.random.SeedSequence([seed, subject, VERSION]).spawn(2 + N_RUNS)
    )
    vt = _ventral_temporal(slab, anatomy)
    patterns = _patterns(slab, vt, anatomy)
    mean = slab.mean * np.float32(anatomy.uniform(0.9, 1.1))
    orders = [[CONDITIONS[i] for i in design.permutation(len(CONDITIONS))] for _ in range(N_RUNS)]

    labels = ["labels chunks\n"]
    bold = np.zeros((*slab.brain.shape, N_RUNS * RUN_VOLUMES), dtype=np.int16, order="F")
    for run, (order, rng) in enumerate(zip(orders, runs, strict=True)):
        labels += [f"{condition} {run}\n" for condition in _volume_conditions(order)]
        percent = _response(order, patterns) + _noise(slab.brain, rng)
        volumes = slice(run * RUN_VOLUMES, (run + 1) * RUN_VOLUMES)
        bold[..., volumes][slab.brain] = np.rint(mean * (1 + percent / 100)).T
    (directory / "labels.txt").write_text("".join(labels), encoding="ascii", newline="\n")
    _write_image(directory / "bold.nii.gz", bold, slab.affine)
    _write_image(directory / "anat.nii.gz", slab.anat, slab.anat_affine)

    masks = {"mask4_vt": vt}
    for condition in ("face", "house"):
        preference = _preference(patterns, condition)
        masks[f"mask8_{condition}_vt"] = _highest(preference, vt, 60)
        masks[f"mask8b_{condition}_vt"] = _highest(preference, vt, 30)
    for name, chosen in masks.items():
        mask = np.zeros(slab.brain.shape, dtype=np.uint8)
        mask[slab.brain] = chosen
        _write_image(directory / f"{name}.nii.gz", mask, slab.affine)


def _write_image(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a compressed NIfTI image in MNI space whose bytes do not depend on when it is written."""
    image = Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    image.header["descrip"] = b"simulated by harness"
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], T_R))
    # Z_RLE: noise has no repetitions, and the empty space around the brain has only runs of zeros.
    gzip = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9, zlib.Z_RLE)
    with path.open("wb") as file:
        file.write(gzip.compress(image.to_bytes()))
        file.write(gzip.flush())


def _volume_conditions(order: list[str]) -> list[str]:
    """Return the condition of every volume of a run, given the order of its blocks."""
    conditions = ["rest"] * RUN_VOLUMES
    for start, condition in zip(BLOCK_STARTS, order, strict=True):
        conditions[start : start + BLOCK_VOLUMES] = [condition] * BLOCK_VOLUMES
    return conditions


def _highest(values: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Return the mask of the `count` allowed voxels with the highest values."""
    order = np.argsort(np.where(allowed, -values, np.inf), kind="stable")
    mask = np.zeros(values.shape, dtype=bool)
    mask[order[:count]] = True
    return mask


def _ventral_temporal(slab: _Slab, rng: np.random.Generator) -> np.ndarray:
    """Return a subject's ventral temporal mask, of shape (n_brain,).

    Fusiform, parahippocampal and inferior temporal cortex: grey matter just above the tentorium, which was
    read off the coronal sections of the template.
    """
    x, y, z = np.abs(slab.mm[:, 0]), slab.mm[:, 1], slab.mm[:, 2]
    tentorium = -19 - 0.25 * np.maximum(y + 60, 0) - 0.25 * (x - 30)
    height = z - tentorium
    allowed = (x > 18) & (x < 56) & (y > -78) & (y < -28) & (height > 2) & (height < 13)
    individual = _fields(slab.brain, rng, count=1, passes=2)[0]
    return _highest(slab.grey + 0.15 * individual, allowed, int(rng.integers(430, 561)))


def _patterns(slab: _Slab, vt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the response to each condition, in percent of the mean, of shape (8, n_brain)."""
    groups = sorted(set(GROUPS.values()))
    group_fields = dict(zip(groups, _fields(slab.brain, rng, count=len(groups), passes=2), strict=True))
    # Finer than the pattern of the group, as differences between classes of a category are.
    own_fields = _fields(slab.brain, rng, count=len(CONDITIONS), passes=1)
    lateral = np.clip((np.abs(slab.mm[:, 0]) - 35) / 10, -1, 1)
    # Every picture drives visual cortex; this part does not depend on the category.
    visual = VISUAL_RESPONSE * slab.grey * (vt | (slab.mm[:, 1] < -78))
    return np.stack(
        [
            visual
            + vt
            * (
                LATERAL_RESPONSE * LATERALITY.get(condition, 0.0) * lateral
                + GROUP_RESPONSE * group_fields[GROUPS[condition]]
                + OWN_RESPONSE * own
            )
            for condition, own in zip(CONDITIONS, own_fields, strict=True)
        ]
    )


def _preference(patterns: np.ndarray, condition: str) -> np.ndarray:
    """Return how far each voxel prefers a condition to the mean of the others, of shape (n_brain,)."""
    index = CONDITIONS.index(condition)
    return patterns[index] - np.delete(patterns, index, axis=0).mean(axis=0)


def _response(order: list[str], patterns: np.ndarray) -> np.ndarray:
    """Return a run's response to its blocks, of shape (n_volumes, n_brain).

    A block convolved with the canonical double gamma is a difference of its cumulative distributions:
    ``F(t - onset) - F(t - offset)``, ``F(t) = gammainc(6, t) - gammainc(16, t) / 6``, t in seconds.
    """
    middle = (np.arange(RUN_VOLUMES) + 0.5) * T_R

    def rise(seconds: np.ndarray) -> np.ndarray:
        after = np.maximum(seconds, 0)
        return (gammainc(6, after) - gammainc(16, after) / 6) / (5 / 6)

    response = np.zeros((RUN_VOLUMES, patterns.shape[1]), dtype=np.float32)
    for start, condition in zip(BLOCK_STARTS, order, strict=True):
        onset = start * T_R - STIMULUS_LEAD
        course = rise(middle - onset) - rise(middle - onset - STIMULUS_LENGTH)
        # No matrix product: BLAS may sum in an order that depends on the number of threads.
        response += course.astype(np.float32)[:, None] * patterns[CONDITIONS.index(condition)]
    return response


def _noise(brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a run's noise, in percent of the mean, of shape (n_volumes, n_brain).

    First-order autoregressive in time and smooth in space, plus an offset and a slow drift of the run.
    """
    noise = _fields(brain, rng, count=RUN_VOLUMES, passes=1)
    innovation = np.float32(math.sqrt(1 - RHO**2))
    for volume in range(1, RUN_VOLUMES):
        noise[volume] = np.float32(RHO) * noise[volume - 1] + innovation * noise[volume]
    offset, line, wave = _fields(brain, rng, count=3, passes=4)
    offset += np.float32(rng.standard_normal())
    time = np.linspace(-1, 1, RUN_VOLUMES, dtype=np.float32)[:, None]
    drift = time * line + np.cos(np.float32(math.pi) * time) * wave
    return np.float32(NOISE) * noise + np.float32(DRIFT) * drift + np.float32(OFFSET) * offset


def _fields(brain: np.ndarray, rng: np.random.Generator, *, count: int, passes: int) -> np.ndarray:
    """Return smooth Gaussian fields of unit variance, of shape (count, n_brain).

    White noise, to which each pass adds `NEIGHBOUR` times the two neighbours along every axis. The grid is
    larger by `passes` voxels on each side, so that the variance is the same at the edge.
    """
    shape = (count, *(length + 2 * passes for length in brain.shape))
    field = rng.standard_normal(shape, dtype=np.float32)
    side = np.float32(NEIGHBOUR)
    kernel = np.ones(1)
    for _ in range(passes):
        kernel = np.convolve(kernel, [NEIGHBOUR, 1, NEIGHBOUR])
        field = field[:, 1:-1] + side * (field[:, :-2] + field[:, 2:])
        field = field[:, :, 1:-1] + side * (field[:, :, :-2] + field[:, :, 2:])
        field = field[..., 1:-1] + side * (field[..., :-2] + field[..., 2:])
    deviation = np.square(kernel).sum() ** 1.5
    return field[:, brain] / np.float32(deviation)
