"""The report of a run, and the blocks that any page of results is made of."""
