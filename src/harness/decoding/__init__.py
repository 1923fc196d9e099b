"""Scores, predictions and weights of samples."""
