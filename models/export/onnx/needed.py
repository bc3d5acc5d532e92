"""The packages that the format onnx needs. Imports none of them."""

from importlib.util import find_spec

from tercet.errors import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def needs_onnx(what: str) -> None:
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        raise UserError(f"{what} needs {', '.join(absent)}; pip install 'tercet[onnx]'")
