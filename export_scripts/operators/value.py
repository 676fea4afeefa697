"""Values of a graph with NumPy's operators: each operator adds one node to the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import helper

if TYPE_CHECKING:
    from export_scripts.operators.builder import Graph

Array: TypeAlias = npt.NDArray[Any]
Operand: TypeAlias = "Value | str | Array | np.generic | int | float"
"""A value, its name, or a constant. Python's int becomes int64, its float float32."""
Index: TypeAlias = "slice | Value | int | None"
END = np.iinfo(np.int64).max


class Value:
    """A value of `graph`, by its name.

    Operators and methods mean the same as in NumPy, except division of integers: / and // round towards zero, as in
    ONNX. Comparisons return values, so use `is` or names to compare Value objects themselves.
    """

    # So that `array - value` calls __rsub__; NumPy would subtract the value from each number of the array.
    __array_ufunc__ = None

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def _node(self, operator: str, *operands: Operand, **attributes: Any) -> Value:
        return self.graph.add(operator, operands, 1, **attributes)[0]

    def __add__(self, other: Operand) -> Value:
        return self._node("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self._node("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self._node("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self._node("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self._node("Div", self, other)

    def __matmul__(self, other: Operand) -> Value:
        return self._node("MatMul", self, other)

    def __rmatmul__(self, other: Operand) -> Value:
        return self._node("MatMul", other, self)

    def __pow__(self, other: Operand) -> Value:
        return self._node("Pow", self, other)

    def __abs__(self) -> Value:
        return self._node("Abs", self)

    def __invert__(self) -> Value:
        return self._node("Not", self)

    def __and__(self, other: Operand) -> Value:
        return self._node("And", self, other)

    def __or__(self, other: Operand) -> Value:
        return self._node("Or", self, other)

    def __lt__(self, other: Operand) -> Value:
        return self._node("Less", self, other)

    def __le__(self, other: Operand) -> Value:
        return self._node("LessOrEqual", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self._node("Greater", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self._node("GreaterOrEqual", self, other)

    # Any, because object's comparisons return bool; NumPy does the same.
    def __eq__(self, other: Any) -> Any:
        return self._node("Equal", self, other)

    def __ne__(self, other: Any) -> Any:
        return ~self._node("Equal", self, other)

    __radd__, __rmul__, __floordiv__ = __add__, __mul__, __truediv__

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Value:
        """Add an axis for each None, or slice axes, or pick entries of one axis by a number or a value."""
        parts = index if isinstance(index, tuple) else (index,)
        chosen = {axis: part for axis, part in enumerate(parts) if not _is_whole(part)}
        if all(part is None for part in chosen.values()):
            return self._node("Unsqueeze", self, ints(*chosen))
        slices = {axis: part for axis, part in chosen.items() if isinstance(part, slice)}
        if len(slices) == len(chosen):
            return self._slice(slices)
        ((axis, place),) = chosen.items()
        assert isinstance(place, Value | int)
        return self._node("Gather", self, place, axis=axis)

    def _slice(self, slices: dict[int, slice]) -> Value:
        starts = _bounds([0 if part.start is None else part.start for part in slices.values()])
        stops = _bounds([END if part.stop is None else part.stop for part in slices.values()])
        steps = [1 if part.step is None else part.step for part in slices.values()]
        return self._node("Slice", self, starts, stops, ints(*slices), *([ints(*steps)] if set(steps) != {1} else []))

    @property
    def shape(self) -> Value:
        """int64 [rank]."""
        return self._node("Shape", self)

    def size(self, axis: int) -> Value:
        """int64 [1]: the size of one axis."""
        return self._node("Shape", self, start=axis, end=axis + 1)

    def astype(self, dtype: npt.DTypeLike) -> Value:
        return self._node("Cast", self, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, *shape: int) -> Value:
        """Reshape; 0 keeps the size of that axis, as in ONNX."""
        return self._node("Reshape", self, ints(*shape))

    def transpose(self, *axes: int) -> Value:
        return self._node("Transpose", self, perm=list(axes))

    def squeeze(self, *axes: int) -> Value:
        """Remove these axes; by default all axes of size 1."""
        return self._node("Squeeze", self, *([ints(*axes)] if axes else []))

    def pad(self, *sides: tuple[int, int], value: Operand | None = None) -> Value:
        """Pad each axis by (before, after) entries of `value`, zero by default."""
        before_then_after = ints(*(before for before, _ in sides), *(after for _, after in sides))
        return self._node("Pad", self, before_then_after, *([] if value is None else [value]))

    def sum(self, *axes: int, keepdims: bool = False) -> Value:
        return self._node("ReduceSum", self, *([ints(*axes)] if axes else []), keepdims=int(keepdims))

    def max(self, *axes: int, keepdims: bool = False) -> Value:
        return self._node("ReduceMax", self, *([ints(*axes)] if axes else []), keepdims=int(keepdims))

    def argmax(self, axis: int, keepdims: bool = False) -> Value:
        """int64."""
        return self._node("ArgMax", self, axis=axis, keepdims=int(keepdims))

    def cumsum(self, axis: int) -> Value:
        return self._node("CumSum", self, axis)

    def sum_before(self, axis: int) -> Value:
        """Sum of the entries before each entry: an exclusive `cumsum`."""
        return self._node("CumSum", self, axis, exclusive=1)


def ints(*values: int) -> Array:
    """A constant int64 vector, the form of shapes and axes."""
    return np.array(values, dtype=np.int64)


def _is_whole(part: Index) -> bool:
    return isinstance(part, slice) and part.start is None and part.stop is None and part.step is None


def _bounds(bounds: Sequence[Value | int]) -> Operand:
    """Starts or stops of a Slice: numbers, or a single value for the only axis."""
    if len(bounds) == 1 and isinstance(bounds[0], Value):
        return bounds[0]
    return ints(*(bound for bound in bounds if isinstance(bound, int)))
