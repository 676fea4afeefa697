"""Building blocks of graphs: the builder, ragged batches, length bucketing, attention, convolutions."""
