"""Exact linear solvers: arrays in, arrays out."""
