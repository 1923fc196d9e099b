"""A decoder as data: its arrays and settings in two files, and the arithmetic that applies it to volumes.

An exported model contains a copy of this module, so that it imports NumPy alone and nothing of the harness.
"""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

FORMAT = 1
SETTINGS_FILE, ARRAYS_FILE = "decoder.json", "decoder.npz"
NEEDED = ("kind", "reason", "classes", "contrast", "columns", "zscore", "cleaning", "shape", "arrays_sha256")
T_R_TOLERANCE = 1e-3  # relative; headers round the repetition time


class PredictionError(ValueError):
    """Volumes that a stored decoder cannot be applied to, or a damaged decoder."""


@dataclass(frozen=True, eq=False)
class StoredDecoder:
    """A fitted decoder, the mean over folds, and how volumes are prepared for it.

    Attributes
    ----------
    settings : mapping
        Content of ``decoder.json``:

        - ``kind``: ``linear``, ``dummy``, or ``none`` with the `reason` why it cannot be applied;
        - ``classes``: in the order of `coef`; ``contrast``: in that of the contrast, with their conditions;
        - ``columns``: names of the decision values, above 0 for the contrast's first class, or one per class;
        - ``zscore``: whose mean and SD standardise a voxel, see `harness.samples.signal.Signal`;
        - ``cleaning``: the other options of the signal; ``confounds``: the columns that are regressed out;
        - ``dtype``: of the masked volumes; None for that of the image after scaling, as in nilearn;
        - ``t_r``: repetition time in seconds, or None; ``shape``: of a volume;
        - ``estimator`` and ``trained_on``: from what it was fitted.
    arrays : mapping of str to ndarray
        Content of ``decoder.npz``: ``mask`` (bits, C order) and ``affine``; ``coef`` of shape (n_problems,
        n_voxels) and ``intercept`` of shape (n_problems,), or for a dummy ``prior`` of shape (n_problems, 2);
        ``location`` and ``scale`` of shape (n_voxels,) where the training volumes standardise.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def contrast(self) -> tuple[str, ...]:
        """Classes of the contrast, the positive one first."""
        return tuple(self.settings["contrast"])

    @property
    def zscore(self) -> str:
        """Whose mean and SD standardise a voxel: own, run, train or none."""
        return str(self.settings["zscore"])

    @property
    def affine(self) -> np.ndarray:
        """Voxel indices to millimetres, (4, 4)."""
        return self.arrays["affine"]

    @cached_property
    def mask(self) -> np.ndarray:
        """Voxels that are decoded, of shape (x, y, z), bool."""
        shape = tuple(self.settings["shape"])
        bits = np.unpackbits(self.arrays["mask"], count=math.prod(shape))
        return bits.astype(bool).reshape(shape)

    @property
    def n_voxels(self) -> int:
        """Number of voxels of the mask."""
        return int(np.count_nonzero(self.mask))

    def require_applicable(self) -> None:
        """Raise PredictionError for a decoder that could not be stored as data."""
        if self.settings["kind"] == "none":
            raise PredictionError(f"this decoder cannot be applied: {self.settings['reason']}")

    def check_space(self, image: str, shape: tuple[int, ...], affine: np.ndarray) -> None:
        """Raise PredictionError unless volumes have the shape and the affine of the decoder's mask."""
        remedy = (
            "resample the image to the space that the decoder was trained in (nilearn.image.resample_img)"
        )
        if tuple(shape[:3]) != self.mask.shape:
            raise PredictionError(
                f"{image}: has volumes of shape {tuple(shape[:3])}, but the decoder was trained on "
                f"{self.mask.shape}; {remedy}"
            )
        # The tolerance of nilearn.masking.apply_mask, with which the training volumes were masked.
        if not np.allclose(self.affine, affine):
            raise PredictionError(
                f"{image}: its affine differs from that of the volumes that the decoder was trained on.\n"
                f"image:\n{affine}\ndecoder:\n{self.affine}\n{remedy}"
            )

    def check_t_r(self, image: str, t_r: float | None) -> None:
        """Raise PredictionError if volumes that are filtered have another repetition time (seconds)."""
        cleaning, expected = self.settings["cleaning"], self.settings["t_r"]
        filters = [name for name in ("high_pass", "low_pass") if cleaning[name] is not None]
        if filters and t_r is not None and not math.isclose(t_r, expected, rel_tol=T_R_TOLERANCE):
            raise PredictionError(
                f"{image}: has a repetition time of {t_r:g} s, but the decoder was trained with "
                f"{expected:g} s "
                f"and signal.{filters[0]}={cleaning[filters[0]]} Hz; expected the same repetition time"
            )

    def check_finite(self, image: str, X: np.ndarray) -> None:
        """Raise PredictionError if masked volumes, (n_volumes, n_voxels), hold NaN or infinite values."""
        finite = np.isfinite(X)
        if not finite.all():
            volume = int((~finite.all(axis=1)).argmax())
            raise PredictionError(
                f"{image}: {int((~finite.all(axis=0)).sum())} of the {X.shape[1]} voxels of the decoder hold "
                f"NaN or infinite values, first in volume {volume} (from 0); correct the image"
            )

    def check_scaling(self, image: str, X: np.ndarray) -> None:
        """Raise PredictionError for volumes that cannot be standardised as those of the training were.

        Parameters
        ----------
        X : ndarray of shape (n_volumes, n_voxels)
            Those that are standardised together, before they are.
        """
        if self.zscore not in ("own", "run") or self.settings["kind"] != "linear":
            return
        whose = "its scanner run" if self.zscore == "run" else "the volumes that are predicted together"
        if len(X) < 2:
            raise PredictionError(
                f"{image}: is a single volume, but signal.zscore={self.zscore} standardises by mean "
                f"and SD of {whose}; give several volumes, or train with signal=train_only"
            )
        constant = int((np.ptp(X, axis=0) == 0).sum())
        if constant:
            raise PredictionError(
                f"{image}: {constant} of the {X.shape[1]} voxels of the decoder are the same in all "
                f"{len(X)} volumes, and cannot be standardised (signal.zscore={self.zscore}) as those of the "
                "training were; check that the image covers the mask and is not one volume repeated"
            )

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the decision values of `harness.decoding.decoder.FittedDecoder`, bit for bit.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels)
            Masked, cleaned volumes; those that are standardised together, where `zscore` is ``own``.

        Returns
        -------
        decision : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
        """
        self.require_applicable()
        if self.settings["kind"] == "dummy":
            return self._guess(len(X))
        decision = self._standardise(np.ascontiguousarray(X)) @ self.arrays["coef"].T
        decision = decision + self.arrays["intercept"]
        return decision[:, 0] if decision.shape[1] == 1 else decision

    def predict(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``predicted``, and the decision values in the order and with the sign of the contrast."""
        decision, classes = self.decision_function(X), np.array(self.settings["classes"])
        columns = self.settings["columns"]
        if decision.ndim == 1:
            predicted = classes[(decision > 0).astype(int)]
            sign = 1 if self.contrast[0] == classes[1] else -1
            return {"predicted": predicted, columns[0]: sign * decision}
        place = {name: index for index, name in enumerate(classes.tolist())}
        values = {
            column: decision[:, place[name]] for column, name in zip(columns, self.contrast, strict=True)
        }
        return {"predicted": classes[decision.argmax(axis=1)]} | values

    def _standardise(self, X: np.ndarray) -> np.ndarray:
        if self.zscore == "train":
            return (X - self.arrays["location"]) / self.arrays["scale"]
        return (zscore(X) if self.zscore == "own" else X).astype(np.float64)

    def _guess(self, n: int) -> np.ndarray:
        """Return the guesses of `harness.decoding.decoder.DummyDecoder`."""
        prior = self.arrays["prior"]
        shares = prior[0] if len(prior) == 1 else prior[:, 1]
        if self.settings["guesses"]:
            named = np.random.default_rng(0).multinomial(1, shares, size=n)
        else:
            named = np.tile(np.eye(len(shares), dtype=int)[shares.argmax()], (n, 1))
        return named[:, 1] - named[:, 0] if len(prior) == 1 else named


def zscore(X: np.ndarray) -> np.ndarray:
    """Standardise every column to mean 0 and SD 1 (ddof=1), as `nilearn.signal.clean` does, bit for bit."""
    Z = X - X.mean(axis=0)
    sd = Z.std(axis=0, ddof=1)
    sd[sd < np.finfo(np.float64).eps] = 1.0
    Z /= sd
    return Z


def pack_decoder(decoder: StoredDecoder) -> dict[str, bytes]:
    """Return the content of the files ``decoder.npz`` and ``decoder.json``."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **decoder.arrays)
    arrays = buffer.getvalue()
    settings = {"format": FORMAT, **decoder.settings, "arrays_sha256": hashlib.sha256(arrays).hexdigest()}
    return {ARRAYS_FILE: arrays, SETTINGS_FILE: (json.dumps(settings, indent=1) + "\n").encode()}


def unpack_decoder(settings: bytes, arrays: bytes) -> StoredDecoder:
    """Return the decoder of the content of ``decoder.json`` and ``decoder.npz``.

    Raises
    ------
    PredictionError
        If a file is damaged, or not one that this version wrote.
    """
    try:
        read = json.loads(settings)
    except ValueError as error:
        raise PredictionError(f"{SETTINGS_FILE} is damaged: {error}") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        found = read.get("format") if isinstance(read, dict) else None
        raise PredictionError(
            f"{SETTINGS_FILE} has the format {found!r}, but expected {FORMAT}: it was edited, or "
            "written by a later version of the harness"
        )
    missing = [name for name in NEEDED if name not in read]
    if missing:
        raise PredictionError(f"{SETTINGS_FILE} has no {missing[0]!r}: it was edited or damaged")
    if hashlib.sha256(arrays).hexdigest() != read["arrays_sha256"]:
        raise PredictionError(
            f"{ARRAYS_FILE} is not the file that belongs to {SETTINGS_FILE}: it was edited or damaged"
        )
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as stored:
            decoder = StoredDecoder(read, {name: stored[name] for name in stored.files})
        _check_arrays(decoder)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise PredictionError(f"{ARRAYS_FILE} is damaged: {error}") from error
    return decoder


def _check_arrays(decoder: StoredDecoder) -> None:
    """Raise a ValueError or KeyError for arrays that do not fit together."""
    n_classes = len(decoder.settings["classes"])
    n_problems = 1 if n_classes == 2 else n_classes
    n_bytes = -(-math.prod(decoder.settings["shape"]) // 8)
    shapes: dict[str, tuple[int, ...]] = {"affine": (4, 4), "mask": (n_bytes,)}
    if decoder.settings["kind"] == "linear":
        shapes |= {"coef": (n_problems, decoder.n_voxels), "intercept": (n_problems,)}
        if decoder.zscore == "train":
            shapes |= {"location": (decoder.n_voxels,), "scale": (decoder.n_voxels,)}
    elif decoder.settings["kind"] == "dummy":
        shapes["prior"] = (n_problems, 2)
    for name, shape in shapes.items():
        if decoder.arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {decoder.arrays[name].shape}, but expected {shape}")
