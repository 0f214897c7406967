"""What a program needs of its machine: devices, processes, signals, locks, whole files, downloads, caches.

It knows nothing of lesions and imports only `config`.
"""
