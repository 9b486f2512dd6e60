"""Follow lesions over time: pieces of a segmentation, laid over those of an earlier study by the masks of the lungs."""
