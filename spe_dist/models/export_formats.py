"""Names of the formats in which sentence encoders are exported for prediction on CPUs; without torch."""

from typing import Literal

ExportFormat = Literal["onnx", "int8"]
