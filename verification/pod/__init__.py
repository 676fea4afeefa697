"""Show that a server with the memory of a pod survives the longest audio."""
