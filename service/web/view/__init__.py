"""The images of a study on its page: which ones, their values, and what was found on them."""
