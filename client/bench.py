"""`python client/bench.py` in a checkout; the same command as `nemo-triton bench`."""

from __future__ import annotations

import sys

try:
    from nemo_triton.commands.bench import main
except ModuleNotFoundError as missing:
    from missing_package import report

    sys.exit(report(missing))

# Sending processes import this file, and must not run the command.
if __name__ == "__main__":
    main()
