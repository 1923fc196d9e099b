"""The options of a run, as package data for Hydra (``pkg://harness.conf``)."""
