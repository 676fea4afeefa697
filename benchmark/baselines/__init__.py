"""Systems that turn recordings into text, behind one interface, to be measured side by side."""
