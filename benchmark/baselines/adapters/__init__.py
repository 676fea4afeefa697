"""Other packages, a module each: `load` gives the package with a model. Imported by worker.py where they are."""
