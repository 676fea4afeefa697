"""Ways to batch recordings of mixed lengths, side by side."""
