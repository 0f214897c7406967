import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The folder of compiled programs, for all runs."""
    return tmp_path_factory.mktemp("cache")
