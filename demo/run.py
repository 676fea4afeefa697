"""Serve what is in model_repository, transcribe the demo's commands and measure: `make demo`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from server.process import ServerError, running_server

ROOT = Path(__file__).parent.parent
RECORDINGS = ROOT / "nemo_triton" / "demo_speech"
MODEL = "coffee_ctc"


def main() -> int:
    repository = ROOT / "model_repository"
    print(f"$ tritonserver --model-repository {repository.name}", flush=True)
    only = ["--model-control-mode=explicit", f"--load-model={MODEL}"]
    with running_server(repository, only) as server:
        recordings = [str(file.relative_to(ROOT)) for file in sorted(RECORDINGS.glob("*.flac"))[:5]]
        options = ["--model", MODEL, "--url", server.grpc]
        for command in (
            ["client/transcribe.py", *recordings, *options],
            ["client/bench.py", *options, "--metrics-url", f"http://{server.metrics}/metrics", "--duration", "10"],
        ):
            print(f"\n$ python {' '.join(command)}", flush=True)
            code = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
            if code:
                return code
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
