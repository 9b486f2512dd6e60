"""Bundles, the sessions that run them, and what their tensors mean: findings, masks and measurements."""
