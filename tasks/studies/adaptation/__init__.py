"""What flows.adapt compares: prompt, steering, LoRA and full fine-tuning on the same triplets."""
