"""Data sets: each turns a subject into a `Recording`."""
