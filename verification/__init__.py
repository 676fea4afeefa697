"""Programs that verify the product at full size and under attack; their results are pages in docs/."""
