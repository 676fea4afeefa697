"""Systems that transcribe recordings, behind one interface: the served model and its baselines."""
