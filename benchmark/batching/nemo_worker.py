"""NeMo's own transcribe(), for the benchmark, in the environment that NeMo is installed in.

    python benchmark/batching/nemo_worker.py CHECKPOINT AUDIO...

For each line that it is sent, a batch size, it transcribes all files and prints a line of JSON: the seconds
that took, and the texts. Audio is read beforehand.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from client.audio import load_audio

INT16_SCALE = np.float32(1 / 32768)


def main() -> None:
    checkpoint, *files = sys.argv[1:]
    logging.disable(logging.ERROR)
    answers = sys.stdout
    # Lines on standard output are answers; NeMo's own belong elsewhere.
    with redirect_stdout(sys.stderr):
        from nemo.collections.asr.models import ASRModel

        model: Any = ASRModel.restore_from(checkpoint, map_location="cpu").eval()
        audio = [load_audio(file) * INT16_SCALE for file in files]
        settings = model.get_transcribe_config()
        settings.verbose = False
        # Audio of less than a second is padded to one where it comes as an array, though not from a file.
        settings.pad_min_duration = 0.0
        for line in sys.stdin:
            settings.batch_size = int(line)
            started = time.perf_counter()
            found = model.transcribe(audio, override_config=settings)
            spent = time.perf_counter() - started
            texts = [hypothesis.text for hypothesis in found]
            print(json.dumps({"seconds": spent, "texts": texts}), file=answers, flush=True)


if __name__ == "__main__":
    main()
