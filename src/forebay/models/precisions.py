"""How a model's matrices are kept, where the form that an engine loads leaves a choice."""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from forebay.engine.manifest import Form
from forebay.models.stages import PreparationError

BLOCK_NUMBERS: Final = 32
"""Numbers of a row that share a scale."""


class Precision(enum.StrEnum):
    """How matrices are kept; vectors always stay 32-bit floats."""

    FP32 = "float32"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits of one number."""
        return {Precision.FP32: 32, Precision.INT8: 8, Precision.INT4: 4}[self]

    @property
    def weight_bytes(self) -> float:
        """Bytes of one number with its share of a scale."""
        return self.bits / 8 + (0 if self is Precision.FP32 else 4 / BLOCK_NUMBERS)


OFFERED: Final[Mapping[Form, tuple[Precision, ...]]] = MappingProxyType(
    {
        Form.ONNX: (Precision.INT8, Precision.INT4, Precision.FP32),
        Form.OPENVINO: (Precision.INT8,),
    }
)
"""Form -> what it can be made in, the default first; the others keep what their source has."""


def require(form: Form, wished: str) -> None:
    """Raise `PreparationError` for a precision that a form is not made in; empty: its default."""
    if not wished or wished in OFFERED.get(form, ()):
        return
    if form in OFFERED:
        raise PreparationError(
            f"precision: {form} is made in {', '.join(OFFERED[form])}; found {wished[:40]}. The "
            "engine onnx takes int8, int4 and float32."
        )
    raise PreparationError(
        f"precision: {form} keeps what its source has; found {wished[:40]}. Leave it out, choose a "
        "source of that precision, or the engine onnx."
    )
