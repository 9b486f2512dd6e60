"""How urgent is a study, and whose turn is it?"""
