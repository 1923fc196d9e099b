"""Searchlights: the score of a decoder in a sphere around every voxel, and tests of such maps."""
