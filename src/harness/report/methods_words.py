"""The words of methods texts for estimators, schemes, standardisation and packages."""

# In all texts, {samples} stands for volumes or block averages. Words of a class by its name without package.
ESTIMATORS = {
    "ExactLinearSVC": "a linear support vector machine (L2 penalty, squared hinge loss, solved to its "
    "optimum)",
    "LinearSVC": "a linear support vector machine (liblinear, {penalty} penalty, {loss} loss)",
    "ExactLogisticRegressionCV": "L2-penalised logistic regression (solved to its optimum)",
    "LogisticRegressionCV": "L2-penalised logistic regression ({solver})",
    "ExactRidgeClassifierCV": "a ridge classifier",
    "ExactLDA": "linear discriminant analysis with Ledoit-Wolf shrinkage of the covariance",
}
DUMMY = "DummyClassifier"
DUMMIES = {
    "stratified": "a dummy classifier, which does not use the images and predicts random classes in the "
    "proportions of the training {samples}",
    "": "a dummy classifier, which does not use the images and predicts the most frequent class of the "
    "training {samples}",
}
# What nilearn's Decoder fits in place of the exact solvers.
NILEARNS_OWN = {"ExactLinearSVC": "LinearSVC", "ExactLogisticRegressionCV": "LogisticRegressionCV"}
LOG_LOSS = (
    "C was chosen from {Cs} inside the training {samples} by stratified {cv}-fold cross-validation of the "
    "log-loss"
)
INNER_CHOICE = {
    "ExactLogisticRegressionCV": LOG_LOSS,
    "LogisticRegressionCV": LOG_LOSS,
    "ExactRidgeClassifierCV": "the penalty was chosen from {alphas} inside the training {samples} by exact "
    "leave-one-out",
}
FIXED_PENALTY = {"alphas": "a penalty of alpha", "Cs": "C"}  # where the choice is from one value
SCHEMES = {
    "LeaveOneGroupOut": "leave-one-scanner-run-out cross-validation",
    "KFold": "{n_splits}-fold cross-validation with consecutive segments of the selected {samples}",
    "StratifiedKFold": "stratified {n_splits}-fold cross-validation without regard to scanner runs",
    "HoldOutLast": "a single split that held out the last {n_volumes} selected {samples}",
}
DIVIDES_BLOCKS = ("KFold", "StratifiedKFold", "HoldOutLast")
ZSCORES = {
    "own": "For the test scores, the training and the held-out {samples} of a fold were standardised (voxels "
    "with mean 0, SD 1), each by their own mean and SD; for the selected scores and the maps, all selected "
    "{samples} together before they were divided into folds, as in nilearn's Decoder.",
    "run": "Voxels were standardised (mean 0, SD 1) within every scanner run over all of its volumes, "
    "before volumes were selected.",
    "train": "Voxels were standardised with the mean and SD of the training {samples} of every fold, "
    "which were applied to the held-out {samples}.",
    "none": "Voxels were not standardised.",
}
PACKAGES = ("harness", "python", "nilearn", "scikit-learn", "numpy", "scipy", "nibabel", "pandas")
ESTIMATOR_REFERENCES = {
    "LinearSVC": "liblinear",
    "LogisticRegressionCV": "liblinear",
    "ExactLDA": "shrinkage",
}
DATASET_REFERENCES = {"haxby": ("haxby",)}
