"""Print what pyproject.toml requires with some of its extras, one requirement a line.

    python docker/requirements.py pyproject.toml EXTRA...

So an image's layer of packages is made anew when requirements change, not when code does.
"""

import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
extras = [requirement for extra in sys.argv[2:] for requirement in project["optional-dependencies"][extra]]
print(*project["dependencies"], *extras, sep="\n")
