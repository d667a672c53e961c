"""Can a classifier tell real from simulated SAR? 0.5 means that it cannot.

Balanced accuracy asks whether what gave simulations away elsewhere does so on a new place; the
area under the curve (AUC) of one place asks whether they are ranked apart, whatever the threshold.

A random forest on channel statistics and a small convolutional net, both judged on places that
they never saw. Needs scikit-learn for the forest, which is no dependency of the package.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from esccs_edge.training.simulate.noise import box_mean

LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 4), (4, 0), (8, 8))
EPOCHS, BATCH = 15, 32


def as_stored(sar):
    """Round and cut alike what is real and what is simulated, so that no format gives it away."""
    return np.round(np.clip(np.asarray(sar, np.float32), -35, 0), 2)


def channel_statistics(sar):
    """Levels, spread, tails, correlation, local variation of chips ``(N, 2, H, W)`` in dB."""
    count = len(sar)
    flat = sar.reshape(count, 2, -1)
    quantiles = np.quantile(flat, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], axis=2)
    mean, std = flat.mean(axis=2), flat.std(axis=2)
    score = (flat - mean[..., None]) / std[..., None]
    linear = 10 ** (sar / 10)
    local = box_mean(linear, 2)
    spread = np.sqrt(np.maximum(box_mean(linear**2, 2) - local**2, 0)) / local
    spread = np.quantile(spread.reshape(count, 2, -1), [0.1, 0.5, 0.9], axis=2)
    fine = sar - box_mean(sar, 1)
    columns = [quantiles.transpose(1, 2, 0), mean, std, (score**3).mean(axis=2),
               (score**4).mean(axis=2), mean[:, :1] - mean[:, 1:], correlation(sar),
               fine.std(axis=(2, 3)), correlation(fine),
               spread.transpose(1, 2, 0),
               np.stack([neighbors(sar, *lag) for lag in LAGS], axis=-1)]  # fmt: skip
    columns += [(10 * np.log10(box_mean(linear, radius))).std(axis=(2, 3)) for radius in (2, 6)]
    return np.concatenate([column.reshape(count, -1) for column in columns], axis=1)


def correlation(sar):
    """Correlation of the two channels of each chip."""
    return np.array([[np.corrcoef(a.ravel(), b.ravel())[0, 1]] for a, b in sar])


def neighbors(sar, rows: int, columns: int):
    """Correlation of pixels that many rows and columns apart, ``(N, 2)``."""
    height, width = sar.shape[-2:]
    centered = sar - sar.mean(axis=(2, 3), keepdims=True)
    product = centered[..., rows:, columns:] * centered[..., : height - rows, : width - columns]
    return product.mean(axis=(2, 3)) / sar.var(axis=(2, 3))


def forest_score(folds, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Real and simulated chips that a random forest recognizes (shares), and AUC, per place."""
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError as error:
        raise SystemExit("the forest needs scikit-learn: pip install scikit-learn") from error
    found = {}
    for place, train, test in folds:
        forest = RandomForestClassifier(300, min_samples_leaf=2, random_state=seed)
        forest.fit(*_labeled([channel_statistics(sar) for sar in train]))
        real, simulated = (forest.predict_proba(channel_statistics(sar))[:, 1] for sar in test)
        found[place] = _told_apart(real, simulated)
    return found


def net_score(folds, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """The same for a convolutional net of four layers, taught with flips and turns."""
    torch.set_num_threads(1)
    found = {}
    for place, train, test in folds:
        pixels, labels = _labeled(train)
        mean, std = (f(pixels, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
        net = _taught(torch.tensor((pixels - mean) / std), torch.tensor(labels), seed)
        with torch.no_grad():
            real, simulated = (
                net(torch.tensor((sar - mean) / std)).softmax(dim=1)[:, 1].numpy() for sar in test
            )
        found[place] = _told_apart(real, simulated)
    return found


def _told_apart(real, simulated) -> tuple[float, float, float]:
    """From probabilities of being simulated: shares recognized, and area under the curve."""
    above = (simulated[:, None] > real).mean() + (simulated[:, None] == real).mean() / 2
    return float((real <= 0.5).mean()), float((simulated > 0.5).mean()), float(above)


def _labeled(pair):
    """Real (0) and simulated (1) chips in one array, and their labels."""
    labels = np.repeat([0, 1], [len(part) for part in pair])
    return np.concatenate(pair), labels


def _taught(pixels, labels, seed: int):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = nn.Sequential(*_layer(2, 16, 1), *_layer(16, 16, 2), *_layer(16, 32, 2),
                        *_layer(32, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Dropout(0.2), nn.Linear(32, 2))  # fmt: skip
    batches = len(pixels) // BATCH + 1
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, EPOCHS * batches)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(pixels)), batches):
            drawn = pixels[batch]
            for axis in (2, 3):
                drawn = drawn.flip(axis) if rng.random() < 0.5 else drawn
            drawn = drawn.transpose(2, 3) if rng.random() < 0.5 else drawn
            loss = nn.functional.cross_entropy(net(drawn), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def _layer(inputs: int, outputs: int, stride: int):
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
