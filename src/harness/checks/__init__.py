"""Inspection of a recording and its design before decoding."""
