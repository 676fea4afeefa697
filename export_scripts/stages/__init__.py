"""One file per stage graph: audio, features, encoder, ctc_decoder, rnnt_decoder, text."""
