"""Trained networks that predict: ensembles, the whole chain as `SegFusion`, its export, and a server.

It imports training, evaluation and all below, and nothing of `report`, `pipeline` or `commands`.
"""
