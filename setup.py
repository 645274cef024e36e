"""What pyproject.toml cannot say: which C to build, and that the wheel is abi3."""

import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

# A free-threaded interpreter has no stable ABI (PEP 703); everywhere else one wheel serves 3.10 and newer.
abi3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
fast = Extension(
    "flipcall._fast",
    sorted(glob("flipcall/hotpath/*.c")),
    depends=["flipcall/hotpath/hotpath.h"],
    py_limited_api=abi3,
    extra_compile_args=[
        "-std=gnu11",
        "-O2",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wno-missing-field-initializers",
    ],
)
setup(
    ext_modules=[fast],
    cffi_modules=["flipcall/core/build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if abi3 else {},
)
