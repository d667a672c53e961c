"""The ONNX operations that a student's graph is made of, as differentiable functions of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from esccs_edge.errors import ArtifactError

Attributes = Mapping[str, Any]
#: Number of float32 among the types of ONNX.
FLOAT = 1


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    strides, dilations = (a.get(name, (1, 1)) for name in ("strides", "dilations"))
    return F.conv2d(x, weight, bias, strides, padding, dilations, a.get("group", 1))


def _conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    _require((top, left) == (bottom, right), "ConvTranspose with pads that differ by side")
    strides, dilations = (a.get(name, (1, 1)) for name in ("strides", "dilations"))
    more = a.get("output_padding", (0, 0))
    return F.conv_transpose2d(
        x, weight, bias, strides, (top, left), more, a.get("group", 1), dilations
    )


def _resize(
    a: Attributes,
    x: Tensor,
    region: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    mode, place = (
        a.get(name, usual).decode()
        for name, usual in (
            ("mode", b"nearest"),
            ("coordinate_transformation_mode", b"half_pixel"),
        )
    )
    if sizes is not None:
        size = sizes.tolist()[2:]
    else:
        assert scales is not None, "a Resize has scales or sizes"
        size = [int(n * scale) for n, scale in zip(x.shape[2:], scales.tolist()[2:], strict=True)]
    if mode == "nearest":
        whole = all(new % old == 0 for new, old in zip(size, x.shape[2:], strict=True))
        _require(whole, "Resize to the nearest pixel by a fraction")
        return F.interpolate(x, size)
    _require(mode == "linear", f"Resize of mode {mode}")
    if place == "align_corners":
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
    _require(place in ("half_pixel", "pytorch_half_pixel"), f"Resize with {place}")
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    _require((top, left) == (bottom, right), "MaxPool with pads that differ by side")
    kernel = a["kernel_shape"]
    return F.max_pool2d(x, kernel, a.get("strides", (1, 1)), (top, left))


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    pads = tuple(a.get("pads", (0, 0, 0, 0)))
    _require(pads == (0, 0, 0, 0), "AveragePool with pads")
    _require(not a.get("ceil_mode", 0), "AveragePool that rounds its size up")
    return F.avg_pool2d(x, a["kernel_shape"], a.get("strides", (1, 1)))


def _cast(a: Attributes, x: Tensor) -> Tensor:
    _require(a["to"] == FLOAT, "Cast to other than float32")
    return x.float()


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    if sizes is not None:
        return torch.split(x, sizes.tolist(), dim=axis)
    return torch.tensor_split(x, a["num_outputs"], dim=axis)


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = x.T if a.get("transA", 0) else x
    weight = weight.T if a.get("transB", 0) else weight
    return torch.addmm(bias, x, weight, beta=a.get("beta", 1.0), alpha=a.get("alpha", 1.0))


def _reduce(
    function: Callable[..., Tensor],
) -> Callable[[Attributes, Tensor, Tensor], Tensor]:
    return lambda a, x, axes: function(x, dim=axes.tolist(), keepdim=bool(a.get("keepdims", 1)))


def _slice(
    _: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Tensor
) -> Tensor:
    parts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(
        *(t.tolist() for t in (starts, ends, axes, steps)), strict=True
    ):
        parts[axis] = slice(start, end, step)
    return x[tuple(parts)]


def _clip(
    _: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    return x.clamp(low, high)


def _concat(a: Attributes, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=a["axis"])


def _unsqueeze(_: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ArtifactError(
            f"the graph has a {what}, which cannot be learned through",
            hint="A graph with this operation can be calibrated but not fine-tuned",
        )


OPERATIONS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Abs": lambda _, x: x.abs(),
    "Add": lambda _, x, y: x + y,
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Ceil": lambda _, x: x.ceil(),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": lambda _, x, y: x / y,
    "Gemm": _gemm,
    "Greater": lambda _, x, y: x > y,
    "Log": lambda _, x: x.log(),
    "MatMul": lambda _, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda _, x, y: x * y,
    "Reciprocal": lambda _, x: x.reciprocal(),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda _, x: torch.relu(x),
    "Resize": _resize,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda a, x: torch.softmax(x, dim=a.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda _, x: x.sqrt(),
    "Sub": lambda _, x, y: x - y,
    "Unsqueeze": _unsqueeze,
}
