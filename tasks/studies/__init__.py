"""Measurements outside the pipeline's results: claims, adaptation, ablation, side effects, agreement, speed."""

# code that a study depends on, besides its own folder
CODE = ("psr", "tasks/asking", "tasks/benchmarks", "tasks/figures", "tasks/steps", "tasks/tables")
