"""The question of a searchlight: what is decoded in every sphere, and how."""

from dataclasses import dataclass

from harness.decoding.choices import Engine
from harness.decoding.nilearn_decoder import check_parameters
from harness.decoding.question import Question, check_engine


@dataclass(frozen=True)
class SphereQuestion(Question):
    """What is decoded in every sphere; `roi` is the set of the centres.

    ``engine="nilearn"`` stands for nilearn's SearchLight, which takes any classifier and standardisation,
    unlike its Decoder.

    Raises
    ------
    UsageError
        If the engine is unknown, or ignores a parameter of this estimator.
    """

    def __post_init__(self) -> None:
        check_engine(self.engine)
        if self.engine == Engine.nilearn:
            check_parameters(self.estimator)
