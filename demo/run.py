"""Serve the demo's three models, transcribe five recordings and measure: `make demo` runs this after the export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from server.process import ServerError, running_server

ROOT = Path(__file__).parent.parent
RECORDINGS = ROOT / "nemo_triton" / "demo_speech"
MODEL = "coffee_rnnt"
"""The most accurate of the three."""
OTHER_MODELS = ("coffee_ctc", "coffee_hybrid", "coffee_hybrid_ctc")
"""The second two are the TDT and the CTC head of one checkpoint."""

NEXT_STEPS = f"""
The models {MODEL}, {", ".join(OTHER_MODELS[:-1])} and {OTHER_MODELS[-1]} are in model_repository. What to do next:

Serve them:
  . .venv/serve/bin/activate
  tritonserver --model-repository model_repository

Export your own model (CHECKPOINT is a .nemo file or the name of a pretrained model):
  . .venv/export/bin/activate
  python export_scripts/export.py CHECKPOINT --repository model_repository

Read more: docs/export.md, docs/serve.md, docs/client.md, docs/benchmark.md"""


def main() -> int:
    """Run the demo and return the exit code of the first command that fails, or 0."""
    repository = ROOT / "model_repository"
    print(f"\n$ tritonserver --model-repository {repository.name}", flush=True)
    arguments = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in (MODEL, *OTHER_MODELS))]
    with running_server(repository, arguments) as server:
        recordings = [str(file.relative_to(ROOT)) for file in sorted(RECORDINGS.glob("*.flac"))[:5]]
        options = ["--model", MODEL, "--url", server.grpc]
        for command in (
            ["client/transcribe.py", *recordings, *options],
            ["client/transcribe.py", recordings[0], "--model", OTHER_MODELS[1], "--url", server.grpc],
            ["client/bench.py", *options, "--metrics-url", f"http://{server.metrics}/metrics", "--duration", "10"],
        ):
            print(f"\n$ python {' '.join(command)}", flush=True)
            code = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
            if code:
                return code
    print(NEXT_STEPS)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
