"""AlphaGenome's architecture in Flax NNX."""
