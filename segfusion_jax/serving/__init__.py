"""Trained networks that predict: ensembles, the whole chain as `SegFusion`, and its export.

It imports training, evaluation and all below, and nothing of `report`, `pipeline` or `commands`.
"""
