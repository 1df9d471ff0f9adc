"""From triplets to a module: the loop, its objectives, and the methods, one file each. Judges nothing."""
