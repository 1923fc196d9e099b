"""Quantities of a stored run, by the names that publications of values use."""

from collections.abc import Callable, Sequence

import numpy as np

from harness.decoding.choices import Scorer
from harness.errors import TrackingError
from harness.tracking.run_decoder import read_decoder
from harness.tracking.stored_run import StoredRun

SCORES = tuple(f"{kind}_{scorer}" for kind in ("test", "selected") for scorer in Scorer)
# Columns of folds.csv: with more than two classes, every class has a selected score of its own.
FOLD_COLUMN = rf"{'|'.join(SCORES)}|selected_({'|'.join(Scorer)})_\w+|best_\w+|n_train|n_test"

Values = Sequence[float] | Sequence[str]


def read_quantity(run: StoredRun, quantity: str) -> Values:
    """Return a quantity of a finished decoding as a list, of length 1 where it is one number.

    ======================  ====================================================================
    name                    values
    ======================  ====================================================================
    ``n_samples``           volumes decoded
    ``n_voxels``            voxels decoded
    ``image_shape``         voxels of the images along their three axes
    ``class_order``         classes in the decoder's order; positive weights are evidence for the
                            second of two
    ``class_counts``        volumes of each class, in this order
    ``label_sequence``      class of every held-out volume, in the order of the volumes
    ``train_accuracy``      accuracy on the volumes that the decoder was fitted on
    ``coef_shape``          problems and voxels of the weights
    ``coef``                weights, problem by problem
    ``coef_first``          the same; as many are compared as are published
    ``coef_norm``           Euclidean norm of the weights
    ``intercept``           one per problem
    ``test_*`` and so on    columns of ``folds.csv``, one value per fold
    ======================  ====================================================================

    Raises
    ------
    TrackingError
        If the run has no such quantity, or its files cannot be read.
    """
    if quantity in QUANTITIES:
        return QUANTITIES[quantity](run)
    folds = run.read_folds()
    if quantity not in folds:
        raise TrackingError(f"run {run.title} has no {quantity} in folds.csv")
    return [float(value) for value in folds[quantity]]


def _read_param(name: str) -> Callable[[StoredRun], Values]:
    def read(run: StoredRun) -> Values:
        try:
            return [int(run.params[name])]
        except (KeyError, ValueError) as error:
            raise TrackingError(f"run {run.title} has no number {name}") from error

    return read


def _read_train_accuracy(run: StoredRun) -> Values:
    if "train_accuracy" not in run.metrics:
        raise TrackingError(f"run {run.title} has no train_accuracy")
    return [float(run.metrics["train_accuracy"])]


def _read_shape(run: StoredRun) -> Values:
    return [int(n) for n in read_decoder(run).settings["shape"]]


def _read_classes(run: StoredRun) -> Values:
    return [str(name) for name in read_decoder(run).settings["classes"]]


def _read_counts(run: StoredRun) -> Values:
    sequence = _read_sequence(run)
    return [sequence.count(name) for name in _read_classes(run)]


def _read_sequence(run: StoredRun) -> Values:
    predictions = run.read_columns("predictions.csv", ("volume", "class"))
    volumes = predictions.drop_duplicates("volume").sort_values("volume")
    return [str(name) for name in volumes["class"]]


def _read_coefficients(run: StoredRun) -> np.ndarray:
    arrays = read_decoder(run).arrays
    if "coef" not in arrays:
        raise TrackingError(f"the decoder of run {run.title} has no weights")
    return np.asarray(arrays["coef"], dtype=np.float64)


def _read_intercept(run: StoredRun) -> Values:
    arrays = read_decoder(run).arrays
    if "intercept" not in arrays:
        raise TrackingError(f"the decoder of run {run.title} has no intercept")
    return [float(value) for value in np.ravel(arrays["intercept"])]


def _list_coefficients(run: StoredRun) -> Values:
    return [float(value) for value in _read_coefficients(run).ravel()]


QUANTITIES: dict[str, Callable[[StoredRun], Values]] = {
    "n_samples": _read_param("n_samples"),
    "n_voxels": _read_param("n_voxels"),
    "image_shape": _read_shape,
    "class_order": _read_classes,
    "class_counts": _read_counts,
    "label_sequence": _read_sequence,
    "train_accuracy": _read_train_accuracy,
    "coef_shape": lambda run: list(_read_coefficients(run).shape),
    "coef": _list_coefficients,
    "coef_first": _list_coefficients,
    "coef_norm": lambda run: [float(np.linalg.norm(_read_coefficients(run)))],
    "intercept": _read_intercept,
}
