"""One file a step of the pipeline: load, call psr, save."""
