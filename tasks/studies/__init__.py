"""What is measured beside the pipeline: claims, adaptation, ablation, speed."""
