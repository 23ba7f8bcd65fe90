from contextlib import ExitStack

import pytest
from servers import serving


@pytest.fixture
def start():
    """start(**ServeOptions): address of a server that runs until the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(serving(**options))


@pytest.fixture(scope="module")
def address(trained):
    """Address of a server of the model trained on `sample`."""
    with serving(model_dir=trained / "model") as address:
        yield address
