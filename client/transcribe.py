"""`python client/transcribe.py` in a checkout; the same command as `nemo-triton transcribe`."""

from __future__ import annotations

import sys

try:
    from nemo_triton.commands.transcribe import main
except ModuleNotFoundError as missing:
    from missing_package import report

    sys.exit(report(missing))

if __name__ == "__main__":
    main()
