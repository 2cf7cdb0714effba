"""Which files are models, by their names, and who can say what is in them."""

from __future__ import annotations

from typing import BinaryIO

from fsd.models import checkpoint, onnx, safetensors
from fsd.models.description import Describe, Description

DESCRIBERS: dict[str, Describe] = {
    ".safetensors": safetensors.describe,
    ".onnx": onnx.describe,
    ".pt": checkpoint.describe,
    ".pth": checkpoint.describe,
    ".ckpt": checkpoint.describe,
}
"""By the ending of a file's name."""

PYTORCH_PREFIX, PYTORCH_SUFFIX = "pytorch_model", ".bin"
"""What Hugging Face calls checkpoints; other files that end so may be anything."""


def describer_of(name: str) -> Describe | None:
    """Who can describe a file of this name (its last part); None if it is no model."""
    lower = name.lower()
    if lower.startswith(PYTORCH_PREFIX) and lower.endswith(PYTORCH_SUFFIX):
        return checkpoint.describe
    return DESCRIBERS.get(lower[lower.rfind(".") :]) if "." in lower else None


def describe_file(name: str, file: BinaryIO, size: int) -> Description | None:
    """What is in a file; None if its name is no model's. Raises NotThatFormatError, and what reading raises."""
    describe = describer_of(name)
    return None if describe is None else describe(file, size)
