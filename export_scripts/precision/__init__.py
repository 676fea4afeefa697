"""The encoder in fp32, fp16 or int8."""
