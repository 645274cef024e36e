"""What pyproject.toml cannot say: the two rows that pyfuse3's table lacks (gofer/fuse/rows) are built where
libfuse3's headers are, as pyfuse3 itself is. Elsewhere there is no C, and the wheel is everybody's.

Where the headers are, failing is an error: a mount without fallocate would be a surprise.
"""

import runpy

from setuptools import setup

BUILD = "src/gofer/fuse/rows/build.py"
built = runpy.run_path(BUILD)
if built["headers"]() is None:
    print("gofer: no libfuse3 headers (pkg-config fuse3): `gofer mount` will have no fallocate")
    setup()
else:
    setup(
        cffi_modules=[f"{BUILD}:ffi"],
        options={"bdist_wheel": {"py_limited_api": "cp310"}} if built["abi3"] else {},
    )
