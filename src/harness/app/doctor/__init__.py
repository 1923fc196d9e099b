"""The checks of ``python -m harness doctor``: a module for each group.

Every module here can be imported with the standard library of Python 3.9 alone; what else a check needs is
imported in its function, so that a missing package is a diagnosis and not a traceback.
"""
