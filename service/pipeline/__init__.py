"""The line a study runs along: `admit` when it is complete, `run` for each job."""
