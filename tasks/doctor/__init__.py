"""Whether this machine and these versions can do the work."""
