"""The pages in a real browser, on a seeded store."""
