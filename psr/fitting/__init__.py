"""From triplets to a module: loop.py from top to bottom, its objectives, and the methods, one file each. Judges nothing."""
