"""One module per baseline package, each with a function `load` that worker.py calls."""
