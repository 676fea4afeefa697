"""Building blocks of graphs: the builder, ragged batches, length buckets, attention, convolutions."""
