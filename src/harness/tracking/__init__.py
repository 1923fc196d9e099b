"""Results in MLflow: stores, runs, queries, fingerprints."""
