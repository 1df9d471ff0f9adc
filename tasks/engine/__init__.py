"""DVC, the Prefect server, cells, locks, progress, errors of disks: what runs a step. Nothing here changes a result."""
