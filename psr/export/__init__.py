"""A module for other programs: as hooks of TransformerLens, and as far as one vector a layer goes as a llama.cpp file."""
