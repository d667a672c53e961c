"""Teacher, auxiliary and student networks: plain conv-BN-ReLU encoders.

No squeeze-excite, swish or depthwise convolution, since those lose accuracy or speed in INT8.
Every operation exports to ONNX and to TensorRT.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..options import EncoderOptions
from .pixel_distance import PixelDistance


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al., 2016, basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` -> ``(N, outputs, H / stride, W / stride)``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ReparameterizedBlock(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution and the input itself, summed; one convolution once taught.

    The form that survives INT8 (QARepVGG: Chu et al., 2022): only the 3 x 3 part is normalized
    before the sum, and the sum after it, so that no part blows up the range of the whole. In
    evaluation, and so in an exported graph, the three are one 3 x 3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.has_identity = stride == 1 and inputs == outputs
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` -> ``(N, outputs, H / stride, W / stride)``."""
        if not self.training:
            weight, bias = self.merged()
            return torch.relu(functional.conv2d(x, weight, bias, self.conv3.stride, 1))
        y = self.bn3(self.conv3(x)) + self.conv1(x)
        return torch.relu(self.bn(y + x if self.has_identity else y))

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return weight ``(outputs, inputs, 3, 3)`` and bias of the one convolution."""
        inner, outer = _scale(self.bn3), _scale(self.bn)
        weight = self.conv3.weight * inner[:, None, None, None]
        weight = weight + functional.pad(self.conv1.weight, (1, 1, 1, 1))
        if self.has_identity:
            identity = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
            weight = weight + functional.pad(identity[:, :, None, None], (1, 1, 1, 1))
        bias = self.bn3.bias - _mean(self.bn3) * inner
        bias = self.bn.bias + (bias - _mean(self.bn)) * outer
        return weight * outer[:, None, None, None], bias


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_var is not None
    return norm.weight / torch.sqrt(norm.running_var + norm.eps)


def _mean(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


BLOCKS: dict[str, type[ResidualBlock | ReparameterizedBlock]] = {
    "residual": ResidualBlock,
    "reparameterized": ReparameterizedBlock,
}


class Encoder(nn.Module):
    """``(N, channels, H, W)`` -> pooled features ``(N, features)``."""

    def __init__(self, channels: int, options: EncoderOptions) -> None:
        super().__init__()
        self.channels = channels
        stride = options.stem_stride
        self.stem = nn.Sequential(
            nn.Conv2d(channels, options.width, stride + 1, stride, stride // 2, bias=False),
            nn.BatchNorm2d(options.width),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        inputs = options.width
        for stage, count in enumerate(options.blocks):
            outputs = options.width * 2**stage
            for block in range(count):
                stride = 2 if block == 0 and stage > 0 else 1
                layers.append(BLOCKS[options.block](inputs, outputs, stride))
                inputs = outputs
        self.stages = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encode a batch of patches."""
        pooled: Tensor = self.stages(self.stem(x)).mean(dim=(2, 3))
        return pooled


class UnimodalNet(nn.Module):
    """One encoder and a linear head: the teacher and both auxiliaries."""

    def __init__(
        self, channels: int, classes: int, options: EncoderOptions, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, options)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(options.features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` -> logits ``(N, classes)``."""
        logits: Tensor = self.head(self.dropout(self.encoder(x)))
        return logits


class ModalityGate(nn.Module):
    """Per-sample weights (optical, SAR) from both branches' features and their availability.

    A softmax over two learned scores is multiplied by the availability and renormalized, so the
    weights sum to 1, a modality of availability 0 gets exactly 0, and the other then exactly 1.
    """

    def __init__(self, features: int, hidden: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(features + 2, hidden)
        self.score = nn.Linear(hidden, 2)

    def forward(self, optical: Tensor, sar: Tensor, availability: Tensor) -> Tensor:
        """Features ``(N, F_o)``, ``(N, F_s)`` and availability ``(N, 2)`` -> weights ``(N, 2)``."""
        joint = torch.cat((optical, sar, availability), dim=1)
        trust = torch.softmax(self.score(torch.relu(self.hidden(joint))), dim=1) * availability
        return trust / trust.sum(dim=1, keepdim=True).clamp_min(1e-12)


class StudentNet(nn.Module):
    """The deliverable: two encoders, the gate and a linear head, one graph.

    The head is linear in the gated features, so a modality with weight 0 cannot reach the logits.
    """

    def __init__(
        self,
        optical_channels: int,
        sar_channels: int,
        classes: int,
        optical: EncoderOptions,
        sar: EncoderOptions,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.optical = Encoder(optical_channels, optical)
        self.sar = Encoder(sar_channels, sar)
        self.gate = ModalityGate(optical.features + sar.features)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(optical.features + sar.features, classes)
        self.distances: nn.ModuleList | None = None

    def add_distances(self) -> nn.ModuleList:
        """Let the network answer distances from the training data too; they are to be fitted."""
        parts = [PixelDistance(branch.channels) for branch in (self.optical, self.sar)]
        self.distances = nn.ModuleList(parts)
        return self.distances

    @torch.no_grad()
    def start_from(self, optical: UnimodalNet, sar: UnimodalNet) -> None:
        """Take over two networks of the same sizes: the gate then weighs their logits."""
        self.optical.load_state_dict(optical.encoder.state_dict())
        self.sar.load_state_dict(sar.encoder.state_dict())
        self.head.weight.copy_(torch.cat((optical.head.weight, sar.head.weight), dim=1))
        self.head.bias.copy_((optical.head.bias + sar.head.bias) / 2)

    def forward(self, optical: Tensor, sar: Tensor, availability: Tensor) -> tuple[Tensor, ...]:
        """``(N, C, H, W), (N, P, H, W), (N, 2)`` -> logits ``(N, K)`` and gate ``(N, 2)``.

        After `add_distances`, distances ``(N, 2)`` too.
        """
        optical_features, sar_features = self.optical(optical), self.sar(sar)
        gate = self.gate(optical_features, sar_features, availability)
        gated = torch.cat((gate[:, :1] * optical_features, gate[:, 1:] * sar_features), dim=1)
        logits = self.head(self.dropout(gated))
        if self.distances is None:
            return logits, gate
        of_optical, of_sar = self.distances
        distances = of_optical(optical, availability[:, :1]), of_sar(sar, availability[:, 1:])
        return logits, gate, torch.cat(distances, dim=1)
