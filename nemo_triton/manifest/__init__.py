"""Read lists of utterances: manifests of any common kind, and folders of recordings."""

from nemo_triton.manifest.finding import find_audio, is_manifest
from nemo_triton.manifest.folders import is_folder
from nemo_triton.manifest.reading import read_manifest
from nemo_triton.manifest.suffixes import MANIFEST_SUFFIXES
from nemo_triton.manifest.utterance import Manifest, Utterance

__all__ = [
    "MANIFEST_SUFFIXES",
    "Manifest",
    "Utterance",
    "find_audio",
    "is_folder",
    "is_manifest",
    "read_manifest",
]
