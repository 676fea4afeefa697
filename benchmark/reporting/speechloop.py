"""The engines that SpeechLoop compared on its 78 words, as published."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "Rob Smith, 'Adding NeMo ASRs to SpeechLoop', 21 June 2022 (robmsmt.github.io); versions of Vosk, Sphinx and Coqui "
    "as in his post of 4 September 2021"
)
MEASURE = (
    "SpeechLoop's mean WER: the mean over utterances of each one's word error rate, none above 1, after its own "
    "corrections of spelling and numbers"
)
WORDS = "words"
"""The name that its data set is prepared under."""


@dataclass(frozen=True)
class Engine:
    """One engine. `mean_wer`: a fraction."""

    name: str
    version: str
    runs: str
    mean_wer: float


ENGINES = (
    Engine("Vosk", "en-small-us-0.15", "offline", 0.2308),
    Engine("Sphinx", "pocketsphinx 0.1.15", "offline", 0.4936),
    Engine("Coqui", "0.9.3", "offline", 0.5513),
    Engine("NeMo", "stt_en_contextnet_1024", "offline", 0.0897),
    Engine("Google", "cloud, 2022", "API", 0.1154),
)
