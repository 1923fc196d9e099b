"""
Decode in ten lines
===================

Face against cat in ventral temporal cortex of a simulated subject.
"""

from sklearn.model_selection import LeaveOneGroupOut

from harness import Estimator, ExactLinearSVC, Question, Scheme, Simulated, decode, make_contrast

question = Question(
    make_contrast(["face", "cat"]),
    Estimator("svc", ExactLinearSVC(), {"C": [1, 10, 100]}),
    Scheme("logo", LeaveOneGroupOut()),
)
decoding = decode(Simulated().load(2), question)
decoding.folds
