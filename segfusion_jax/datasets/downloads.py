"""stub"""

DOWNLOADS = {"ham10000": ()}


def download(*a):
    raise NotImplementedError
