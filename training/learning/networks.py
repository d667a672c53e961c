"""Teacher, auxiliary and student networks: one or two encoders and a linear head.

An encoder is what a factory ``(channels, options) -> nn.Module`` makes: ``(N, channels, H, W)`` ->
``(N, features)``, with the attribute ``features``. It is named ``"package.module:factory"``, so
another package can bring its own without a change here. That of this package is plain conv-BN-ReLU:
no squeeze-excite, swish or depthwise convolution, since those lose accuracy or speed in INT8, and
every operation exports to ONNX and to TensorRT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from esccs_edge.errors import InputError

from ..scene_options import EncoderOptions
from .factories import imported
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
    """``(N, channels, H, W)`` -> ``(N, features)``; those of other packages only look like it.

    Attributes:
        features: Length of a feature vector.
    """

    features: int


class ConvolutionalEncoder(Encoder):
    """Residual or reparameterized blocks, then the mean over all pixels."""

    def __init__(self, channels: int, options: EncoderOptions) -> None:
        super().__init__()
        self.features = options.width * 2 ** (len(options.blocks) - 1)
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


def convolutional(channels: int, options: EncoderOptions) -> nn.Module:
    """Return the default encoder."""
    return ConvolutionalEncoder(channels, options)


def encoder(channels: int, options: EncoderOptions) -> Encoder:
    """Make an encoder by the name of its factory.

    Raises:
        InputError: There is no such factory, or what it makes is no encoder.
    """
    made = imported(options.encoder, "encoder")(channels, options)
    features = getattr(made, "features", None)
    if not isinstance(made, nn.Module) or not isinstance(features, int) or features < 1:
        raise InputError(
            f"{options.encoder} makes {type(made).__name__} with features {features!r}, expected "
            "a torch module whose attribute 'features' is the length of its feature vectors"
        )
    return cast(Encoder, made)


def check_encoder(channels: int, options: EncoderOptions, size: tuple[int, int]) -> None:
    """Let a new encoder encode two patches.

    Args:
        channels: Of the patches.
        options: Name the factory.
        size: Height and width of a patch.

    Raises:
        InputError: It cannot, or its features have another shape than it says.
    """
    made = encoder(channels, options).eval()
    try:
        with torch.no_grad():
            found = made(torch.zeros(2, channels, *size))
    except Exception as error:  # of code that is not ours
        raise InputError(
            f"{options.encoder} cannot encode patches of {(channels, *size)}: "
            f"{type(error).__name__}: {error}",
            hint="Let its factory resize them, or fit the encoder to their channels and size",
        ) from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != (2, made.features):
        raise InputError(
            f"{options.encoder} makes features {shape} of two patches, expected "
            f"{(2, made.features)}",
            hint="Pool tokens or maps to one vector a patch, and state its length as 'features'",
        )


class UnimodalNet(nn.Module):
    """One encoder and a linear head: the teacher and both auxiliaries."""

    def __init__(
        self, channels: int, classes: int, options: EncoderOptions, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.encoder = encoder(channels, options)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` -> logits ``(N, classes)``."""
        logits: Tensor = self.head(self.dropout(self.encoder(x)))
        return logits.float()


class Ensemble(nn.Module):
    """Answers with the mean of its members' probabilities, as log-probabilities.

    Args:
        members: Networks of one task.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` -> log-probabilities ``(N, classes)``."""
        mean = torch.stack([torch.softmax(net(x), dim=1) for net in self.members]).mean(dim=0)
        return torch.log(mean.clamp_min(1e-12))


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
        self.channels = optical_channels, sar_channels
        self.optical = encoder(optical_channels, optical)
        self.sar = encoder(sar_channels, sar)
        features = self.optical.features + self.sar.features
        self.gate = ModalityGate(features)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, classes)
        self.distances: nn.ModuleList | None = None

    def add_distances(self) -> nn.ModuleList:
        """Let the network answer distances from the training data too; they are to be fitted."""
        self.distances = nn.ModuleList([PixelDistance(count) for count in self.channels])
        return self.distances

    @torch.no_grad()
    def start_from(self, optical: UnimodalNet, sar: UnimodalNet) -> None:
        """Take over two networks of the same sizes: the gate then weighs their logits."""
        self.optical.load_state_dict(optical.encoder.state_dict())
        self.sar.load_state_dict(sar.encoder.state_dict())
        self.head.weight.copy_(torch.cat((optical.head.weight, sar.head.weight), dim=1))
        self.head.bias.copy_((optical.head.bias + sar.head.bias) / 2)

    def features(self, optical: Tensor, sar: Tensor, availability: Tensor) -> tuple[Tensor, Tensor]:
        """Encode both images: ``(N, F_o)`` and ``(N, F_s)``."""
        return (
            encoded(self.optical, optical, availability[:, 0] > 0),
            encoded(self.sar, sar, availability[:, 1] > 0),
        )

    def answer(
        self, features: tuple[Tensor, Tensor], availability: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features of both branches -> logits ``(N, K)`` and gate ``(N, 2)``."""
        optical, sar = features
        gate = self.gate(optical, sar, availability)
        gated = torch.cat((gate[:, :1] * optical, gate[:, 1:] * sar), dim=1)
        return self.head(self.dropout(gated)).float(), gate

    def forward(self, optical: Tensor, sar: Tensor, availability: Tensor) -> tuple[Tensor, ...]:
        """``(N, C, H, W), (N, P, H, W), (N, 2)`` -> logits ``(N, K)`` and gate ``(N, 2)``.

        After `add_distances`, distances ``(N, 2)`` too.
        """
        logits, gate = self.answer(self.features(optical, sar, availability), availability)
        if self.distances is None:
            return logits, gate
        of_optical, of_sar = self.distances
        distances = of_optical(optical, availability[:, :1]), of_sar(sar, availability[:, 1:])
        return logits, gate, torch.cat(distances, dim=1)


def encoded(encoder: Encoder, images: Tensor, present: Tensor) -> Tensor:
    """Features ``(N, F)``; in training, absent images must not reach the batch statistics."""
    features: Tensor
    if not encoder.training or bool(present.all()):
        features = encoder(images)
    elif not present.any():
        features = images.new_zeros(len(images), encoder.features)
    else:
        seen: Tensor = encoder(images[present])
        features = seen.new_zeros(len(images), encoder.features).index_put((present,), seen)
    return features
