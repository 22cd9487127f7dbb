"""Data sets as LightningDataModules, the sampler that grows with training, and the synthetic renderer."""
