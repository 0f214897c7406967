"""Both ways in which an operation is computed on a CPU."""

import pytest

from segfusion_jax.ops import native


@pytest.fixture
def kernels() -> None:
    """Skips a test where the kernels cannot be compiled."""
    if not native.available():
        pytest.skip("the kernels need a C++ compiler")


@pytest.fixture(params=["native", "fallback"])
def route(request, monkeypatch) -> str:
    """Runs a test with the kernels and then without."""
    if request.param == "native":
        request.getfixturevalue("kernels")
    else:
        monkeypatch.setattr(native, "available", lambda: False)
    return request.param
