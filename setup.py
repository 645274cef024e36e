"""The one thing pyproject.toml cannot say: which cffi module to build, and that its wheel is abi3."""

import sys
import sysconfig

from setuptools import setup

# A free-threaded interpreter has no stable ABI (PEP 703); everywhere else one wheel serves 3.10 and newer.
abi3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
setup(
    cffi_modules=["flipcall/core/build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if abi3 else {},
)
