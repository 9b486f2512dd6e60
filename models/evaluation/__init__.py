"""Honest figures of a bundle on any data that is laid out like the training data. No torch; see models/README.md."""
