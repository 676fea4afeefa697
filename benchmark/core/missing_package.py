"""One error line, in place of a traceback, for a command that runs in the wrong virtual environment."""

from __future__ import annotations

import sys
from types import TracebackType

EXIT_PROBLEM = 2
"""The same value as in nemo_triton.terminal.exit_codes, whose packages may be missing here."""

_SERVE = "the environment of server and client: . .venv/serve/bin/activate"
EXPORT = "the environment for exports: . .venv/export/bin/activate"
_BASELINES = "the environment of the baselines: . .venv/baselines/bin/activate"
ENVIRONMENTS = {
    "benchmark.baselines.baseline_models": EXPORT,
    "benchmark.baselines.worker": _BASELINES,
    "benchmark.studies.gpu.pack": EXPORT,
    "benchmark.studies.gpu.pytorch": EXPORT,
    "benchmark.studies.gpu.pytorch_encoder": EXPORT,
    "benchmark.studies.rnnt_decoding": EXPORT,
}
"""What to activate, by command; all others need the environment of server and client."""
_PROJECT_PACKAGES = ("benchmark", "export_scripts", "nemo_triton", "server", "verification")


def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Handle an uncaught exception, as sys.excepthook: a missing package becomes one line on stderr.

    Raises:
        SystemExit: A package is missing; the exit code is EXIT_PROBLEM.
    """
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").split(".")[0] in _PROJECT_PACKAGES:
        sys.__excepthook__(kind, error, traceback)
        return
    spec = sys.modules["__main__"].__spec__
    command = spec.name.removesuffix(".__main__") if spec else "this command"
    print(
        f"error: the module {error.name} is not installed in this Python; for {command} activate "
        f"{ENVIRONMENTS.get(command, _SERVE)} (see docs/install.md)",
        file=sys.stderr,
    )
    sys.exit(EXIT_PROBLEM)
