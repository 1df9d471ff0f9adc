"""Figures: how strongly a module steers when it is judged, and the rows that come of what was answered, judged and run."""
