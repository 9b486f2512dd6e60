"""When is a study complete, and which of its images shall a model read?"""
