"""DVC, the Prefect server, cells, locks, progress, disk errors: what runs a step. Changes no result."""
