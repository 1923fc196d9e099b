"""The parameters of the estimator of a searchlight, which searches no grid."""

from collections.abc import Mapping

from sklearn.base import ClassifierMixin, clone

from harness.decoding.estimator import L1_LOSSES, Estimator
from harness.errors import UsageError
from harness.searchlight.nilearn_scorer import FirstMultiple


def fix_parameters(estimator: Estimator) -> tuple[ClassifierMixin, str | None]:
    """Return the classifier with the first value of every parameter of the grid.

    The decoder of a region chooses among the grid on the fold that it scores, as nilearn's Decoder does. A
    map of such scores would be too high everywhere.

    Returns
    -------
    model : ClassifierMixin
        A clone. Multiples of the smallest C are found for every training set (`FirstMultiple`).
    notice : str or None
        Which values are used, if the grid has several.

    Raises
    ------
    UsageError
        If a parameter has no values, or the grid has more than the multiples of the smallest C.
    """
    model = clone(estimator.model)
    used, several = [], False
    for name, given in estimator.grid.items():
        is_multiple = isinstance(given, Mapping)
        values = list(given["times_l1_min_c"] if is_multiple else given)
        if not values:
            raise UsageError(f"estimator.grid.{name}=[] has no values; expected at least one")
        several |= len(values) > 1
        if is_multiple:
            if len(estimator.grid) > 1:
                raise UsageError(
                    f"estimator.grid varies {', '.join(estimator.grid)}: a searchlight takes multiples of "
                    f"the smallest {name} (times_l1_min_c) only if no other parameter varies; set the others "
                    "as parameters of the estimator"
                )
            loss = next(loss for kind, loss in L1_LOSSES.items() if isinstance(model, kind))
            model = FirstMultiple(model, name, float(values[0]), loss)
            used.append(f"{name}={values[0]:g} times its smallest value with a non-zero weight")
        else:
            model.set_params(**{name: values[0]})
            used.append(f"{name}={values[0]}")
    if not several:
        return model, None
    return model, (
        f"estimator={estimator.name}: a searchlight does not choose parameters on the volumes that it "
        f"scores; it uses the first value of estimator.grid, {', '.join(used)}"
    )
