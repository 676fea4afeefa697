"""Print the requirements in pyproject.toml, with extras, one per line.

    python docker/requirements.py pyproject.toml EXTRA...

An image that installs this list rebuilds its layer of packages only if the requirements change, not the code.
"""

import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
extras = [requirement for extra in sys.argv[2:] for requirement in project["optional-dependencies"][extra]]
print(*project["dependencies"], *extras, sep="\n")
