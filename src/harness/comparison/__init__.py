"""Stored runs -> whether they differ, by how much, and why."""
