"""An experiment-tracking research harness for fMRI decoding.

The names for notebooks are imported at their first use: ``--help`` and completion need none of them.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see of `_NAMES`; a test compares the two
    from harness.app.composition import compose_request as compose_request
    from harness.app.composition import compose_requests as compose_requests
    from harness.app.run_spec import RunSpec as RunSpec
    from harness.app.run_spec import decode_request as decode_request
    from harness.checks.result_audit import audit as audit
    from harness.comparison.paired_decodings import compare_decodings as compare_decodings
    from harness.datasets.bids import Bids as Bids
    from harness.datasets.haxby import Haxby as Haxby
    from harness.datasets.nifti import Nifti as Nifti
    from harness.datasets.recording import Recording as Recording
    from harness.datasets.simulated import Simulated as Simulated
    from harness.decoding.decode import Decoding as Decoding
    from harness.decoding.decode import decode as decode
    from harness.decoding.estimator import Estimator as Estimator
    from harness.decoding.evaluation import Scoring as Scoring
    from harness.decoding.question import Question as Question
    from harness.decoding.splitters import HoldOutLast as HoldOutLast
    from harness.decoding.splitters import Scheme as Scheme
    from harness.errors import HarnessError as HarnessError
    from harness.inference.paired_tests import CorrectedT as CorrectedT
    from harness.inference.permutation import PermutationTest as PermutationTest
    from harness.inference.permutation import run_permutation_test as run_permutation_test
    from harness.inference.settings import PermutationSettings as PermutationSettings
    from harness.samples.contrasts import make_contrast as make_contrast
    from harness.samples.samples import Roi as Roi
    from harness.samples.signal import Signal as Signal
    from harness.searchlight.result import SearchlightResult as SearchlightResult
    from harness.searchlight.run import map_searchlight as map_searchlight
    from harness.searchlight.settings import Searchlight as Searchlight
    from harness.solvers.estimators import ExactLDA as ExactLDA
    from harness.solvers.estimators import ExactLinearSVC as ExactLinearSVC
    from harness.solvers.estimators import ExactLogisticRegressionCV as ExactLogisticRegressionCV
    from harness.solvers.estimators import ExactRidgeClassifierCV as ExactRidgeClassifierCV

# MLflow sends usage reports unless this is set before it is imported; a tool for people's data sends nothing.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_NAMES = {
    "harness.app.composition": ("compose_request", "compose_requests"),
    "harness.app.run_spec": ("RunSpec", "decode_request"),
    "harness.checks.result_audit": ("audit",),
    "harness.comparison.paired_decodings": ("compare_decodings",),
    "harness.datasets.bids": ("Bids",),
    "harness.datasets.haxby": ("Haxby",),
    "harness.datasets.nifti": ("Nifti",),
    "harness.datasets.recording": ("Recording",),
    "harness.datasets.simulated": ("Simulated",),
    "harness.decoding.decode": ("Decoding", "decode"),
    "harness.decoding.estimator": ("Estimator",),
    "harness.decoding.evaluation": ("Scoring",),
    "harness.decoding.question": ("Question",),
    "harness.decoding.splitters": ("HoldOutLast", "Scheme"),
    "harness.errors": ("HarnessError",),
    "harness.inference.paired_tests": ("CorrectedT",),
    "harness.inference.permutation": ("PermutationTest", "run_permutation_test"),
    "harness.inference.settings": ("PermutationSettings",),
    "harness.samples.contrasts": ("make_contrast",),
    "harness.samples.samples": ("Roi",),
    "harness.samples.signal": ("Signal",),
    "harness.searchlight.result": ("SearchlightResult",),
    "harness.searchlight.run": ("map_searchlight",),
    "harness.searchlight.settings": ("Searchlight",),
    "harness.solvers.estimators": (
        "ExactLDA",
        "ExactLinearSVC",
        "ExactLogisticRegressionCV",
        "ExactRidgeClassifierCV",
    ),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
