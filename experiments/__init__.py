"""Studies, as package data for Hydra (``pkg://harness.experiments``)."""
