"""Could a score be chance: relabellings of blocks, the permutation test, corrections."""
