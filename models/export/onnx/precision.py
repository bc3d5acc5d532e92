"""Smaller graphs: weights and matrix products in fp16, or 8-bit weights with onnxruntime's dynamic quantization.

The front end of sounds and the head always stay in fp32: quiet bands of a spectrogram need the range, and vectors of
length 1 the digits.
"""

import ast
from pathlib import Path
from typing import Any, Literal

Precision = Literal["fp32", "fp16", "int8"]

IN_FP16 = ("MatMul", "Gemm", "Conv", "Gather")  # what autocast runs in fp16, and tables of embeddings
IN_INT8 = ["MatMul", "Gemm", "Gather"]
SCOPES = "pkg.torch.onnx.name_scopes"  # the metadata of a node that lists the modules around it


def make_smaller(path: Path, precision: Precision, external: bool) -> None:
    """Replaces the graph of a file. `external`: it is too large for one file, so that its weights are in another."""
    import onnx

    model = onnx.load(path)
    small = path.with_suffix(".small")
    if precision == "fp16":
        onnx.save(in_fp16(model), small, save_as_external_data=external, location=f"{path.name}.data")
    else:
        from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

        # With signed weights, sums overflow on processors that have AVX2 and no VNNI.
        quantize_dynamic(
            path, small, IN_INT8, per_channel=True, weight_type=QuantType.QUInt8, nodes_to_exclude=exact_nodes(model),
            use_external_data_format=external,
        )  # fmt: skip
    small.replace(path)


def exact_nodes(model: Any) -> list[str]:
    """The names of the nodes that stay in fp32: those outside of the tower, and those of its front end."""
    return [node.name for node in model.graph.node if _is_exact(node)]


def _is_exact(node: Any) -> bool:
    scopes: list[str] = next((ast.literal_eval(one.value) for one in node.metadata_props if one.key == SCOPES), [])
    return "tower" not in scopes or any(scope.endswith("front_end") for scope in scopes)


def in_fp16(model: Any) -> Any:
    """Runs products, convolutions and look-ups of a tower in fp16, as autocast does, and stores their weights so.

    All other nodes stay in fp32, with casts between. onnxruntime has a converter of whole graphs, but on some of our
    towers it returns NaN or crashes, because attention masks and norms do not fit the range.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    weights, exact = {one.name: one for one in graph.initializer}, set(exact_nodes(model))
    known = (*graph.value_info, *graph.input, *graph.output)
    kinds = {one.name: one.type.tensor_type.elem_type for one in known}
    kinds |= {name: one.data_type for name, one in weights.items()}
    nodes: list[Any] = []
    halved: dict[str, str] = {}

    def half(name: str) -> str:
        if name not in halved:
            halved[name] = f"{name}_fp16"
            if name in weights:
                values = numpy_helper.to_array(weights[name]).astype("float16")
                graph.initializer.append(numpy_helper.from_array(values, halved[name]))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [halved[name]], f"{name}_to_fp16", to=TensorProto.FLOAT16)
                )
        return halved[name]

    for node in graph.node:
        floats = [name for name in node.input if kinds.get(name) == TensorProto.FLOAT]
        looks_up = node.op_type == "Gather" and node.input[0] not in weights
        if node.op_type not in IN_FP16 or node.name in exact or looks_up or kinds.get(node.input[0]) != 1:
            nodes.append(node)
            continue
        inputs, (output,) = [half(name) if name in floats else name for name in node.input], node.output
        del node.input[:]
        node.input.extend(inputs)
        node.output[0] = f"{output}_from_fp16"
        nodes += [node, helper.make_node("Cast", [node.output[0]], [output], f"{output}_cast", to=TensorProto.FLOAT)]
    _replace(graph.node, nodes)
    used = {name for node in nodes for name in node.input}
    _replace(graph.initializer, [one for one in graph.initializer if one.name in used])
    return model


def _replace(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)
