"""What the images are: collections read, checked, joined into groups, dealt to splits and kept as records.

It imports `config` and `runtime`, and never jax.
"""
