"""Decode audio files: libsndfile first, as NeMo does, then FFmpeg for what phones and browsers record."""

from nemo_triton.audio_decoders.decoded import Decoded, Header
from nemo_triton.audio_decoders.decoding import decode, decode_segment, read_header
from nemo_triton.audio_decoders.segment import WHOLE, Segment
from nemo_triton.audio_decoders.suffixes import AUDIO_SUFFIXES
from nemo_triton.audio_decoders.transport_stream import TRANSPORT_STREAM_SUFFIXES, is_transport_stream

__all__ = [
    "AUDIO_SUFFIXES",
    "TRANSPORT_STREAM_SUFFIXES",
    "WHOLE",
    "Decoded",
    "Header",
    "Segment",
    "decode",
    "decode_segment",
    "is_transport_stream",
    "read_header",
]
