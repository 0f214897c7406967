"""A run from files to report: its workdir, its stages, and studies and comparisons of several runs.

It imports all rooms but `commands`.
"""
