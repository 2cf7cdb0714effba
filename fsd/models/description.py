"""What can be said of a model file without loading it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, BinaryIO, NamedTuple, Protocol

MAX_ELEMENTS = 1 << 63
"""A tensor has fewer numbers, and each of its dimensions is smaller."""

MAX_SUMMARY_PARTS = 64
"""Types, and devices, that a summary names: more than there are of either, where nobody means harm."""

_SHOWN_CHARACTERS = 80


class NotThatFormatError(ValueError):
    """The file is not what its name says, or is damaged."""


def is_shape(shape: Sequence[int]) -> bool:
    """Whether a tensor can be of a shape, whose dimensions are not negative. Counts no further than it takes."""
    if max(shape, default=0) >= MAX_ELEMENTS:
        return False
    if 0 in shape:
        return True
    elements = 1
    for dimension in shape:
        elements *= dimension
        if elements >= MAX_ELEMENTS:
            return False
    return True


def shown_name(name: str) -> str:
    """A tensor's name for a message of one line, however long the file says it is."""
    return repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…")


class Tensor(NamedTuple):
    """One tensor."""

    name: str
    dtype: str
    """As the format names it."""
    shape: tuple[int, ...]
    size: int
    """Bytes in the file; 0 if they are in another one."""

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Description:
    """One file."""

    format: str
    """safetensors, onnx, or pytorch."""
    tensors: Sequence[Tensor] = ()
    """In the file's order; none where telling would take executing it."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What its author wrote into it."""
    devices: tuple[str, ...] = ()
    """Where its numbers were when it was saved, if the format says so: 'cpu', 'cuda:0'."""

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def needs_gpu(self) -> bool:
        """Whether loading it fails where there is no GPU, unless the loader says where to put things."""
        return any(device.partition(":")[0] not in ("cpu", "meta") for device in self.devices)

    def summary(self) -> dict[str, Any]:
        """What is kept of it in a commit: JSON, some KiB at most whatever is in the file."""
        found: dict[str, Any] = {"format": self.format}
        if self.tensors:
            dtypes = Counter(tensor.dtype for tensor in self.tensors)
            found |= {
                "tensors": len(self.tensors),
                "parameters": self.parameters,
                "dtypes": dict(sorted(dtypes.most_common(MAX_SUMMARY_PARTS))),
            }
        if self.devices:
            found["devices"] = list(self.devices[:MAX_SUMMARY_PARTS])
        return found


class Describe(Protocol):
    """Reads the description of a file of one format."""

    def __call__(self, file: BinaryIO, size: int) -> Description:
        """`file` is seekable and `size` bytes long. Reads as little as it takes. Raises NotThatFormatError."""
