"""Metrics, intervals, calibration, subgroups and novelty on plain arrays.

It imports nothing of ours: it could be a package of its own.
"""
