"""Objectives: pure functions from tensors to losses, with equation, units and what is reduced."""
