"""numpy.ndarray as a bulk kind: type and shape in the slot, the elements as the attachment, in C order.

Imported only when an annotation names an array (bulk.py): numpy is no dependency of flipcall.

What may come from a peer is a list of types, and not whatever numpy.dtype() makes of a string: no object
references, no structures (whose strings lose the names of their fields), no elements of size zero, of which a
shape could announce 10**18 in no bytes. The shape is multiplied in Python's integers, which do not overflow.
"""

import math
import operator
import re
import typing
from typing import Annotated, Any

import msgspec
import numpy as np

from .errors import MisuseError
from .filled import Filled, unasked
from .landing import Fresh, Landing

# dtype.str: byte order, kind, bytes of an element; of datetime64 and timedelta64 its unit.
_PLAIN = re.compile(
    r"[<>|](?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU][1-9]\d{0,8}|[mM]8(?:\[\w{1,20}\])?)"
)
_LARGEST = 2**40  # bytes: far above what a message carries

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Slot(msgspec.Struct, array_like=True, frozen=True):
    """An array but for its elements."""

    dtype: Annotated[str, msgspec.Meta(max_length=40)]
    shape: Annotated[list[_Size], msgspec.Meta(max_length=32)]


class Array:
    """ndarray (any type), or ndarray[shape, dtype[T]] as NDArray[T]: elements are T, in any byte order."""

    bare = False
    landing: Landing | None = Fresh(lambda size: np.empty(size, np.uint8))

    def __init__(self, annotation: Any) -> None:
        """Raises TypeError for a T that cannot be sent."""
        self.slot = Slot
        self._scalar = _scalar(annotation)
        # As a shape (shape.py): an array of any type takes every one.
        self.schema = "ndarray" if self._scalar is np.generic else f"ndarray of {self._scalar.__name__}"
        if issubclass(self._scalar, (np.object_, np.void)):
            raise TypeError(f"arrays of {self._scalar.__name__} cannot be sent")

    def pack(self, value: Any) -> tuple[Slot, memoryview]:
        """See Bulk.pack; an array that is not contiguous is copied first. Raises TypeError for another type."""
        if type(value) not in (np.ndarray, np.memmap):  # a masked one, say, is more than its elements
            raise TypeError(f"Expected `ndarray`, got `{type(value).__name__}`")
        slot = Slot(value.dtype.str, list(value.shape))
        try:
            self._checked(slot)
        except ValueError as e:
            raise TypeError(str(e)) from None
        # As numbers of one byte, because a buffer cannot say datetime64.
        return slot, np.ascontiguousarray(value).reshape(-1).view(np.uint8).data

    def promised(self, value: Filled) -> Slot:
        """See Bulk.promised."""
        if not isinstance(value, FilledArray):
            raise TypeError(f"Expected `ndarray`, got {value!r}: filled(shape, fill, dtype) makes one")
        try:
            self._checked(value.slot)
        except ValueError as e:
            raise TypeError(str(e)) from None
        return value.slot

    def size(self, slot: Slot) -> int:
        """See Bulk.size."""
        return math.prod(slot.shape) * self._checked(slot).itemsize

    def unpack(self, slot: Slot, part: Any) -> "np.ndarray[Any, Any]":
        """See Bulk.unpack; the array is writable."""
        landed = part if isinstance(part, np.ndarray) else np.frombuffer(part, np.uint8).copy()
        return landed.view(self._checked(slot)).reshape(slot.shape)

    def _checked(self, slot: Slot) -> "np.dtype[Any]":
        """The element type of a slot, after everything it says was checked. Raises ValueError."""
        if not _PLAIN.fullmatch(slot.dtype):
            raise ValueError(f"an array of {slot.dtype!r} cannot be sent")
        try:
            dtype = np.dtype(slot.dtype)
        except TypeError as e:  # a unit that is none, a size this machine has not
            raise ValueError(f"an array of {slot.dtype!r} cannot be made: {e}") from None
        if not issubclass(dtype.type, self._scalar):
            raise ValueError(f"Expected an array of `{self._scalar.__name__}`, got `{dtype.type.__name__}`")
        # Without its zeros, too: numpy refuses a shape whose other dimensions overflow.
        if math.prod(n for n in slot.shape if n) * dtype.itemsize > _LARGEST:
            raise ValueError(f"an array of shape {slot.shape} is too large")
        return dtype


class FilledArray(Filled):
    """What filled() returns for an array: fill gets one that lies in its place."""

    __slots__ = ("slot",)

    def __init__(self, shape: Any, fill: Any, dtype: Any) -> None:
        sizes = [operator.index(n) for n in (shape if isinstance(shape, tuple) else (shape,))]
        self.slot = Slot(np.dtype(dtype).str, sizes)
        if any(n < 0 for n in sizes):
            raise MisuseError(f"there is no array of shape {shape}")
        if not _PLAIN.fullmatch(self.slot.dtype):
            raise TypeError(f"an array of {self.slot.dtype!r} cannot be sent")
        super().__init__(math.prod(sizes) * np.dtype(dtype).itemsize, fill)

    def write(self, place: memoryview) -> None:
        """See Filled.write."""
        result = self._fill(np.ndarray(self.slot.shape, self.slot.dtype, place))
        if hasattr(result, "__await__"):
            raise unasked(result, "anything else")


def _scalar(annotation: Any) -> Any:
    """The T of an annotation; numpy.generic where it says nothing, or nothing that is one type."""
    arguments = typing.get_args(annotation)
    scalar = (typing.get_args(arguments[1]) or (np.generic,))[0] if len(arguments) == 2 else np.generic
    if scalar is Any or isinstance(scalar, typing.TypeVar):
        return np.generic
    scalar = typing.get_origin(scalar) or scalar  # floating[Any]
    if not (isinstance(scalar, type) and issubclass(scalar, np.generic)):
        raise TypeError(f"the elements of {annotation} must be one numpy type")
    return scalar
