"""From prompts to answers to triplets: generation, sampling, pairs, selection. Knows no benchmark's file."""
