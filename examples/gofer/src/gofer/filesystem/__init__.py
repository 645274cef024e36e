"""GoferFileSystem: a gofer's tree to whatever reads through fsspec (pandas, pyarrow, dask, zarr, ...).

    pandas.read_csv("gofer:///data.csv", storage_options={"socket": "/run/gofer.sock"})
    pandas.read_csv("gofer://%2Frun%2Fgofer.sock/data.csv")        the same, all in the URL

Which gofer: the option `socket` (for all there is also fsspec's configuration: $FSSPEC_GOFER_SOCKET), or the URL's
authority where that is a percent-encoded absolute path. The rest of the URL is the path. Needs the extra `fsspec`.
"""

from gofer.filesystem.files import GoferFileSystem

__all__ = ["GoferFileSystem"]
