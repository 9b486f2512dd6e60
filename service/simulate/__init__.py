"""What does the order change? A simulation of a department: who waits how long, with and without the AI in its order."""
