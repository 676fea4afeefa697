"""Which file names are manifests."""

from __future__ import annotations

_PLAIN_MANIFESTS = (".json", ".jsonl", ".ndjson", ".jsonlines", ".csv", ".tsv")

KALDI_SUFFIX = ".scp"
"""Of Kaldi's lists of recordings."""

MANIFEST_SUFFIXES = (*_PLAIN_MANIFESTS, *(f"{suffix}.gz" for suffix in _PLAIN_MANIFESTS), KALDI_SUFFIX)
"""Lower case. `is_manifest` applies them: `Path.suffix` is only the last part of .jsonl.gz."""
