"""The study of flows.adapt: prompt, steering, LoRA and full fine-tuning on the same triplets."""
