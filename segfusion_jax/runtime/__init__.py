"""What a program needs of its machine: devices, processes, signals, locks, whole files, caches, safe reading.

It knows nothing of lesions and imports only `config`.
"""
