"""Published models of kinds that can't be exported, by name, so that they are refused before they are downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from export_scripts.checkpoints.names import bare_name

_OFFLINE = "choose an offline model, such as nvidia/parakeet-unified-en-0.6b"
_ENGLISH = "choose an English model, see --list"


@dataclass(frozen=True)
class RefusedModels:
    """Models of one kind.

    Attributes:
        patterns: Patterns of their names, without nvidia/.
        kind: What they are, in the singular.
        example: Name of one of them.
        instead: What to do.
    """

    patterns: tuple[str, ...]
    kind: str
    example: str
    instead: str


REFUSED: tuple[RefusedModels, ...] = (
    RefusedModels(
        ("canary-*",),
        "a Canary model, which has an attention decoder",
        "nvidia/canary-1b",
        "choose a CTC, RNNT or TDT model, such as nvidia/parakeet-tdt-0.6b-v2",
    ),
    RefusedModels(
        ("parakeet_realtime_eou_*",),
        "a streaming model that writes a token for the end of an utterance",
        "nvidia/parakeet_realtime_eou_120m-v1",
        _OFFLINE,
    ),
    RefusedModels(
        ("multitalker-parakeet-streaming-*",),
        "a streaming model for several speakers",
        "nvidia/multitalker-parakeet-streaming-0.6b-v1",
        _OFFLINE,
    ),
    RefusedModels(
        ("nemotron-3.5-asr-streaming-*",),
        "a streaming model with a prompt for the language",
        "nvidia/nemotron-3.5-asr-streaming-0.6b",
        _OFFLINE,
    ),
    RefusedModels(
        ("stt_*_fastconformer_hybrid_*_streaming_*", "nemotron-speech-streaming-*"),
        "a streaming (cache-aware) model",
        "stt_en_fastconformer_hybrid_large_streaming_multi",
        _OFFLINE,
    ),
    RefusedModels(
        ("stt_multilingual_fastconformer_hybrid_large_pc*", "stt_enes_*"),
        "a model with one vocabulary per language",
        "stt_multilingual_fastconformer_hybrid_large_pc",
        _ENGLISH,
    ),
    RefusedModels(
        ("stt_en_squeezeformer_*",),
        "a Squeezeformer",
        "stt_en_squeezeformer_ctc_large_ls",
        "choose a Conformer or FastConformer, see --list",
    ),
)
"""The kinds, the first that matches a name counts."""


def refusal_of(name: str) -> str | None:
    """Why a published model can't be exported, and what to do; None if no kind in REFUSED has this name."""
    bare = bare_name(name)
    kinds = (kind for kind in REFUSED if any(fnmatchcase(bare, pattern) for pattern in kind.patterns))
    kind = next(kinds, None)
    return f"{kind.kind}, can't be exported; {kind.instead}" if kind else None
