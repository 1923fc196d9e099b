"""Masked, cleaned and selected volumes of a recording."""
