"""Can a classifier tell real from simulated cloudy chips? Balanced accuracy; 0.5: it cannot.

A random forest on channel statistics and a small convolutional net, judged on places that they
never saw. Chips are ``(N, 13, H, W)`` in reflectance. Needs scikit-learn for the forest, which is
no dependency of the package.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.training.simulate.noise import box_mean

EPOCHS, BATCH = 10, 32
BLUE = BANDS.index("B02")
#: Blur, in pixels, that hides how a file enlarged its bands of 60 and 20 m.
BLUR = dict.fromkeys(("B01", "B09", "B10"), 3) | dict.fromkeys(
    ("B05", "B06", "B07", "B8A", "B11", "B12"), 1
)


def as_compared(chips):
    """Return log reflectance with the enlarged bands blurred alike in real and simulated chips."""
    light = np.asarray(chips, np.float32) * np.float32(1e-4)
    for band, radius in BLUR.items():
        number = BANDS.index(band)
        light[:, number] = box_mean(box_mean(light[:, number], radius), radius)
    return np.log(np.maximum(light, 1e-3))


def channel_statistics(logs):
    """Levels, spread, fine and coarse structure, and how each band goes with the blue one."""
    count = len(logs)
    quantiles = np.quantile(logs.reshape(count, 13, -1), [0.05, 0.25, 0.5, 0.75, 0.95], axis=2)
    centered = logs - logs.mean(axis=(2, 3), keepdims=True)
    std = centered.std(axis=(2, 3))
    with_blue = (centered * centered[:, [BLUE]]).mean(axis=(2, 3)) / (std * std[:, [BLUE]] + 1e-6)
    ratio = logs - logs[:, [BLUE]]
    columns = [quantiles.transpose(1, 2, 0).reshape(count, -1),
               (logs - box_mean(logs, 1)).std(axis=(2, 3)), box_mean(logs, 4).std(axis=(2, 3)),
               with_blue, np.median(ratio, axis=(2, 3)), ratio.std(axis=(2, 3))]  # fmt: skip
    return np.concatenate(columns, axis=1)


def told_apart(judge, real, simulated, places) -> dict[str, float]:
    """Return the balanced accuracy of ``judge`` by place, over all chips and over places."""
    recognized = np.zeros((2, len(places)))
    for place in np.unique(places):
        kept, asked = places != place, places == place
        answer = judge(real[kept], simulated[kept], places[kept])
        recognized[0, asked] = ~answer(real[asked])
        recognized[1, asked] = answer(simulated[asked])
    found = {str(p): float(recognized[:, places == p].mean()) for p in np.unique(places)}
    return {**found, "places": float(np.mean(list(found.values()))), "all": recognized.mean()}


def forest(real, simulated, places):
    """Return a function of chips: which of them a random forest takes for simulated."""
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise SystemExit("the forest needs scikit-learn: pip install scikit-learn") from error
    statistics = np.concatenate([channel_statistics(real), channel_statistics(simulated)])
    weights = np.tile([1.0 / np.sum(places == place) for place in places], 2)
    model = RandomForestClassifier(200, min_samples_leaf=2, random_state=0)
    model.fit(statistics, np.repeat([0, 1], len(real)), sample_weight=weights)
    return lambda chips: model.predict(channel_statistics(chips)) == 1


def net(real, simulated, places):
    """Return the same for a convolutional net of three layers, taught with flips and turns."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pixels = np.concatenate([real, simulated])
    labels = torch.tensor(np.repeat([0, 1], len(real)))
    mean, std = (f(pixels, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    scaled = torch.tensor((pixels - mean) / std)
    model = nn.Sequential(*_layer(13, 16), *_layer(16, 32), *_layer(32, 32),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2),
                          nn.Linear(32, 2))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(pixels)), len(pixels) // BATCH + 1):
            drawn = scaled[batch]
            drawn = drawn.flip(2) if rng.random() < 0.5 else drawn
            drawn = drawn.transpose(2, 3) if rng.random() < 0.5 else drawn
            loss = nn.functional.cross_entropy(model(drawn), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()

    def answer(chips):
        with torch.no_grad():
            return model(torch.tensor((chips - mean) / std)).argmax(dim=1).numpy() == 1

    return answer


def _layer(inputs: int, outputs: int):
    convolution = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
