"""What is measured beside the pipeline: claims, adaptation, ablation, speed."""

# the code that decides what a study measures, beside its own folder
CODE = ("psr", "tasks/asking", "tasks/benchmarks", "tasks/figures", "tasks/steps", "tasks/tables")
