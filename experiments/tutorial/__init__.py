"""Studies of the sections of the tutorial, and the published values."""
