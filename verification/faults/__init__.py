"""Processes killed, servers stopped and connections cut under load: what clients lose, and how long it takes."""
