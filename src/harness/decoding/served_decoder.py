"""A stored decoder as an MLflow model: a table of image files in, classes and decision values out.

An exported model contains a copy of this module and of `stored_decoder`, so that it imports nothing else of
the harness. Reading, smoothing and cleaning give the same volumes as the packages of the harness do.
"""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from .stored_decoder import ARRAYS_FILE, SETTINGS_FILE, PredictionError, StoredDecoder, unpack_decoder

COLUMN = "image"
NIFTI2_SIZE = 540  # first field of a NIfTI-2 header
SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


class ServedDecoder:
    """What `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, decoder: StoredDecoder) -> None:
        self.decoder = decoder

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return the predictions of every volume of some images.

        Parameters
        ----------
        model_input : DataFrame with the column ``image``
            Paths of 4D NIfTI images, ``.nii`` or ``.nii.gz``. Each is one scanner run, and predicted by
            itself.
        params : mapping, optional
            Without effect.

        Returns
        -------
        table : DataFrame, one row per volume
            ``image``, ``volume`` (from 0), ``predicted`` and the decision values.

        Raises
        ------
        PredictionError
            If an image cannot be read, or does not fit the decoder.
        """
        tables = [self._predict_image(str(image)) for image in model_input[COLUMN]]
        return pd.concat(tables, ignore_index=True)

    def _predict_image(self, name: str) -> pd.DataFrame:
        decoder = self.decoder
        image = read_image(Path(name))
        if len(image.shape) != 4:
            raise PredictionError(f"{name}: has shape {image.shape}, but expected 4D, volumes along the last")
        decoder.check_space(name, image.shape, image.affine)
        decoder.check_t_r(name, _find_t_r(image))
        X = self._mask(name, image)
        decoder.check_finite(name, X)
        decoder.check_scaling(name, X)
        predictions = decoder.predict(self._clean(X))
        described = {"image": name, "volume": np.arange(len(X))}
        return pd.DataFrame(described | predictions)

    def _mask(self, name: str, image: nib.Nifti1Image) -> np.ndarray:
        """Return the voxels of the decoder, of shape (n_volumes, n_voxels)."""
        settings, mask = self.decoder.settings, self.decoder.mask
        try:
            volumes = np.asanyarray(image.dataobj)
        except (OSError, ValueError, EOFError) as error:
            raise PredictionError(f"{name}: is cut short or damaged ({error})") from error
        fwhm = settings["cleaning"]["smoothing_fwhm"]
        if fwhm is None:
            X = volumes[mask].T
        else:
            from nilearn.image import get_data, smooth_img

            rows = []
            for volume in np.moveaxis(volumes, -1, 0):
                one = nib.Nifti1Image(volume, image.affine, dtype=volume.dtype)  # required for int64
                rows.append(np.where(np.isfinite(volume), get_data(smooth_img(one, fwhm)), np.nan)[mask])
            X = np.stack(rows)
        dtype = np.float32 if settings["dtype"] == "float32" or X.dtype.kind != "f" else X.dtype
        return np.ascontiguousarray(X, dtype=dtype)

    def _clean(self, X: np.ndarray) -> np.ndarray:
        settings = self.decoder.settings
        cleaning = settings["cleaning"]
        filters = cleaning["high_pass"] is not None or cleaning["low_pass"] is not None
        if settings["kind"] == "dummy" or not (cleaning["detrend"] or filters or settings["zscore"] == "run"):
            return X
        from nilearn.signal import clean

        return clean(
            X,
            detrend=cleaning["detrend"],
            standardize="zscore_sample" if settings["zscore"] == "run" else None,
            filter="butterworth" if filters else False,
            high_pass=cleaning["high_pass"],
            low_pass=cleaning["low_pass"],
            t_r=settings["t_r"],
        )


def read_image(path: Path) -> nib.Nifti1Image:
    """Read a NIfTI image to the end, so that the checksum of gzip is verified.

    Raises
    ------
    PredictionError
        If the file is missing, damaged or of another format.
    """
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
        is_nifti2 = NIFTI2_SIZE in (int.from_bytes(content[:4], order) for order in ("little", "big"))
        kind = nib.Nifti2Image if is_nifti2 else nib.Nifti1Image
        return kind.from_bytes(content)
    except (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise PredictionError(f"{path}: cannot be read as a NIfTI image ({error})") from error


def _find_t_r(image: nib.Nifti1Image) -> float | None:
    try:
        factor = SECONDS_PER_UNIT.get(image.header.get_xyzt_units()[1])
    except KeyError:  # a code that NIfTI does not define
        return None
    zoom = float(image.header.get_zooms()[3])
    return None if factor is None or not zoom > 0 else zoom * factor


def _load_pyfunc(data_path: str) -> ServedDecoder:
    """Load the model from the directory of ``decoder.json`` and ``decoder.npz``; MLflow calls this."""
    settings, arrays = (Path(data_path, name).read_bytes() for name in (SETTINGS_FILE, ARRAYS_FILE))
    decoder = unpack_decoder(settings, arrays)
    decoder.require_applicable()
    return ServedDecoder(decoder)
