"""The command line: composition, jobs, sweeps, verbs."""
