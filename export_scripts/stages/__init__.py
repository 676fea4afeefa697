"""The graphs of the stages, one file each: audio, features, encoder, ctc_decoder, rnnt_decoder, text."""
