"""An experiment-tracking research harness for fMRI decoding."""

import os

# MLflow reports its use over the network unless told not to, and reads this when it is imported. A harness
# for people's data sends nothing anywhere.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
