"""Study: methods to batch recordings of mixed lengths."""
