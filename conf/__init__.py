"""The vocabulary of one run, as package data for Hydra (``pkg://harness.conf``)."""
