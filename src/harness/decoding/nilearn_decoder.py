"""The same decoding with nilearn's own `Decoder`, as an independent check.

nilearn receives images and standardises, screens, fits and predicts by itself; nothing of the arithmetic of
`harness.decoding.decoder` is shared. The images have the precision that nilearn's masker gives, float64 for
some files; see `harness.samples.samples.load_samples`.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV
from sklearn.svm import LinearSVC

from harness.decoding.decoder import Folds, SelectedModels
from harness.decoding.estimator import Estimator
from harness.decoding.weights import unmask
from harness.errors import UsageError
from harness.samples.samples import FoldPreprocessing, Roi, VoxelGrid
from harness.solvers.estimators import (
    ExactLDA,
    ExactLinearSVC,
    ExactLogisticRegressionCV,
    ExactRidgeClassifierCV,
)

TAKEN_OVER = ("C", "Cs", "cv", "alphas")  # from an exact solver by nilearn's own
L1_MULTIPLES = [2.0, 20.0, 200.0]  # of the smallest C, for an L1 penalty: nilearn takes no others


@dataclass(frozen=True, eq=False)
class NilearnDecoder(SelectedModels):
    """A fitted nilearn `Decoder` that takes masked volumes.

    Attributes
    ----------
    coef, coef_sd : ndarray of shape (n_problems, n_voxels), or None for a dummy
    grid : VoxelGrid
        Turns masked volumes back into images.
    """

    coef: np.ndarray | None
    coef_sd: np.ndarray | None
    decoder: Any
    grid: VoxelGrid

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return nilearn's decision values; see `FittedDecoder.decision_function`."""
        if self.coef is not None:
            return self.decoder.decision_function(self._image(X))
        # nilearn gives a dummy no decision function; its guesses are the nearest thing to one.
        guesses = self.predict(X)
        if len(self.classes) == 2:
            return np.where(guesses == self.classes[1], 1, -1)
        return (guesses[:, np.newaxis] == self.classes).astype(int)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return nilearn's predictions; see `FittedDecoder.predict`."""
        return self.decoder.predict(self._image(X))

    def _image(self, X: np.ndarray) -> nib.Nifti1Image:
        return unmask(X, self.grid, dtype=X.dtype)


@dataclass(frozen=True, eq=False)
class NilearnEngine:
    """Fits nilearn's `Decoder`; called like `harness.decoding.decoder.fit_decoder`.

    Attributes
    ----------
    roi : Roi
        Its screening percentile is given to nilearn.
    """

    grid: VoxelGrid
    roi: Roi

    def __call__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        folds: Folds,
        estimator: Estimator,
        scorer: str,
        preparation: FoldPreprocessing,
    ) -> NilearnDecoder:
        """Fit nilearn's Decoder; see `harness.decoding.decoder.fit_decoder`."""
        from nilearn.decoding import Decoder

        check_nilearn(estimator, preparation.zscore)
        model = find_nilearns_own(estimator.model)
        estimator = Estimator(estimator.name, model, estimator.grid)
        decoder = Decoder(
            estimator=clone(model),
            mask=unmask(np.ones(X.shape[1]), self.grid),
            cv=list(folds),
            param_grid=_param_grid(estimator),
            scoring=scorer,
            screening_percentile=self.roi.screening_percentile,
            standardize="zscore_sample" if preparation.zscore == "own" else None,
        )
        with warnings.catch_warnings():
            for expected in (
                "Use a custom estimator",
                "Brain mask is smaller",
                "screening_percentile set to",
            ):
                warnings.filterwarnings("ignore", message=expected)
            decoder.fit(unmask(X, self.grid, dtype=X.dtype), y)
        classes = decoder.classes_
        problems = list(classes if len(classes) > 2 else classes[1:])
        return NilearnDecoder(
            classes=classes,
            scores=np.array([decoder.cv_scores_[name] for name in problems]).T,
            params=tuple(
                tuple(_chosen(decoder.cv_params_[name], fold) for name in problems)
                for fold in range(len(folds))
            ),
            coef=decoder.coef_,
            coef_sd=decoder.std_coef_[-len(problems) :] if decoder.coef_ is not None else None,
            decoder=decoder,
            grid=self.grid,
        )


def check_nilearn(estimator: Estimator, zscore: str | None) -> None:
    """Raise a UsageError for what nilearn's Decoder cannot do, or what has no effect on its own solvers."""
    if zscore == "train":
        raise UsageError(
            "engine=nilearn cannot standardise by the training volumes (signal.zscore=train): its Decoder "
            "z-scores before the folds are made; use signal=tutorial or signal=per_run, or engine=harness"
        )
    check_parameters(estimator)
    model = estimator.model
    _param_grid(Estimator(estimator.name, find_nilearns_own(model), estimator.grid))


def check_parameters(estimator: Estimator) -> None:
    """Raise a UsageError for a parameter that has no effect on nilearn's own solver."""
    model = estimator.model
    if find_nilearns_own(model) is not model:
        defaults = type(model)().get_params()
        for name, value in model.get_params().items():
            if name not in TAKEN_OVER and value != defaults[name]:
                raise UsageError(
                    f"estimator.{name}={value} has no effect with engine=nilearn, which solves "
                    f"estimator={estimator.name} its own way; leave it out, or use engine=harness"
                )


def find_nilearns_own(model: ClassifierMixin) -> ClassifierMixin:
    """Return nilearn's own solver of the problem that an exact one solves; any other model as it is."""
    if isinstance(model, ExactLinearSVC):
        return LinearSVC(C=model.C, max_iter=10_000, random_state=0)
    if isinstance(model, ExactLogisticRegressionCV):
        return LogisticRegressionCV(
            Cs=model.Cs,
            cv=model.cv,
            l1_ratios=(0,),
            solver="liblinear",
            scoring="neg_log_loss",
            use_legacy_attributes=False,
        )
    if isinstance(model, ExactRidgeClassifierCV):
        return RidgeClassifierCV(alphas=model.alphas)
    if isinstance(model, ExactLDA):
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    return model


def _param_grid(estimator: Estimator) -> dict[str, Any] | None:
    """Return the grid as nilearn takes it: values that a model searches by itself are wrapped in a list."""
    for name in ("Cs", "alphas"):
        if hasattr(estimator.model, name):
            if estimator.grid:
                raise UsageError(
                    f"engine=nilearn cannot vary {list(estimator.grid)} in addition to the {name} that "
                    f"estimator={estimator.name} searches by itself; leave estimator.grid empty"
                )
            return {name: [getattr(estimator.model, name)]}
    for name, values in estimator.grid.items():
        if isinstance(values, Mapping):
            if list(values.values()) != [L1_MULTIPLES] or len(estimator.grid) > 1:
                raise UsageError(
                    f"engine=nilearn tries {L1_MULTIPLES} times the smallest {name}, not {dict(values)}; "
                    f"leave estimator.grid.{name} as it is, or use engine=harness"
                )
            return None  # nilearn's own default for such a model
    return dict(estimator.grid)


def _chosen(params: Mapping[str, list[Any]], fold: int) -> dict[str, Any]:
    """Return the parameters of one fold, by the names that `harness.decoding.decoder` gives them."""
    inside = {"best_C": "C", "best_alpha": "alpha"}
    chosen = {inside[name]: values[fold] for name, values in params.items() if name in inside}
    return chosen or {name: values[fold] for name, values in params.items()}
