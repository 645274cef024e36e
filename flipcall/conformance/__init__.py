"""What any way to call a service must do, as tests for pytest: bring two fixtures, and import what it shall pass.

    from flipcall.conformance.fixtures import *
    from flipcall.conformance.errors import *
    from flipcall.conformance.streams import *

The modules: alternating, arguments, bulk, deadlines, descriptors, errors, sessions, signatures, streams, threads,
types, views. Their tests need nothing but fixtures of these names:

- `serve(implementation, **options)` serves it in this process until the test ends, and returns what has `stop()`
  and `channels`, as a Server does. The implementation may be a factory. options: message_max, window_max,
  tracebacks, authorize, as for Server.
- `connect(service, **options)` is a client of what was served, closed when the test ends. options: message_max,
  window_size, max_channels, timeout, as for connect().

What else they use is in flipcall.conformance.fixtures. Import that first: a fixture defined after it replaces the
one imported. flipcall's own transports pass all of it.
"""

import pkgutil

try:
    import pytest
except ModuleNotFoundError as error:
    raise ImportError("flipcall.conformance is a suite for pytest: pip install 'pytest>=8'") from error

__all__: list[str] = []

# Before any of them is imported: without it a failed assertion says that it failed, and no more.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
