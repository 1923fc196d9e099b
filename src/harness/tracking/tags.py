"""Names of the MLflow tags that the harness writes; existing stores contain them, so they must not change."""

IDENTITY_TAG = "harness.identity"  # fingerprint of a run
# On a run: the ids of its sweeps, oldest first, separated by spaces. On an experiment: followed by a dot and
# the id of a sweep, see `harness.tracking.sweep_notes`.
SWEEP_TAG = "harness.sweep"
ERROR_TAG = "harness.error"  # first line of why a run failed
NOTICES_TAG = "harness.notices"  # one per line
ANALYSIS_TAG = "harness.analysis"  # of a run that is no decoding: searchlight
OVERRIDES_TAG = "harness.overrides"  # as typed, separated by spaces
AUDIT_TAG = "harness.audit"  # the worst verdict: ok, caution or leak
WARNINGS_TAG = "harness.warnings"  # their number
INFERENCE_TAG = "harness.inference"  # enumerated or random
PRIMARY_TAG = "harness.inference.primary"  # the score whose p-value needs no correction for several scores
RELABELLINGS_TAG = "harness.relabellings"  # digest of the list of relabellings that a test used
POSITIVE_TAG = "harness.weights.positive"  # per decoder, the class that positive weights speak for
DIGEST_TAG = "harness.digest"  # followed by a dot and the name of a file
VERSION_TAG = "harness.version"  # followed by a dot and the name of a package
CODE_TAG = "harness.code"  # digest of the computing code; followed by a dot and a package, of a user's own
NOTE_TAG = "mlflow.note.content"  # the Markdown text that the MLflow UI shows above a run
COMMIT_TAG = "mlflow.source.git.commit"  # MLflow's own name, which its UI shows
FILES_TAG = "harness.files"  # digest of the list of a run's files, see `harness.tracking.file_digests`
KIND_TAG = "harness.kind"  # of an experiment and its runs, if these are not decodings: groups
GROUP_TAG = "harness.group"  # on a run of the kind groups: digest of the choices that its subjects share
MEMBERS_TAG = "harness.group.runs"  # on such a run: the ids of the subjects' runs, separated by spaces
PLANNED_TAG = "harness.group.planned"  # on such a run: how many subjects its sweep has
DIRECTORY_TAG = "harness.directory"  # in which the run was started; relative paths are below it
