"""An experiment-tracking research harness for fMRI decoding."""
