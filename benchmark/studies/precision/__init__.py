"""fp32, fp16 and int8 of a checkpoint, side by side."""
