"""Draw the figures of the course again: ``python -m course.figures`` in ``docs/``."""

from course.figures import write_figures

for path in write_figures():
    print(path)
