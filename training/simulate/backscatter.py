"""What real Sentinel-1 backscatter looks like per ground cover, as the simulator needs it.

`MEASURED` was measured by ``docs/sar_simulation.py`` on real pairs of clear Sentinel-2 and
Sentinel-1: 15 triplets and one more of SEN12MS-CR (CC-BY 4.0; sigma0 in dB, ground range detected,
terrain corrected to 10 m) and the Spanish pair and ten further SAR chips with water labels of
Sen1Floods11 (CC-BY 4.0). The unit is a chip of 64 x 64 pixels; every place counts alike.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backscatter:
    """Statistics of sigma0 per cover, in the order of `covers.COVERS`; dB unless stated.

    Attributes:
        vv: Mean over places of the chips' median VV.
        vh: The same of VH.
        level_std: Standard deviation of the chips' median VV.
        ratio_std: Standard deviation of the chips' median VV - VH.
        texture: Geometric mean of the standard deviation within a chip of VV averaged over
            5 x 5 pixels, speckle taken off.
        texture_spread: Standard deviation of the logarithm of that.
        ratio_texture: Standard deviation within a chip of VV - VH, speckle taken off.
        looks: Equivalent number of looks of even ground.
        blur: Weights of a pixel, its neighbors and theirs, by which speckle is correlated.
        noise: Noise-equivalent sigma0, which products have taken off.
        noise_std: Standard deviation of that from place to place.
    """

    vv: tuple[float, ...]
    vh: tuple[float, ...]
    level_std: tuple[float, ...]
    ratio_std: tuple[float, ...]
    texture: tuple[float, ...]
    texture_spread: tuple[float, ...]
    ratio_texture: tuple[float, ...]
    looks: float
    blur: tuple[float, float, float]
    noise: float
    noise_std: float


MEASURED = Backscatter(
    vv=(-16.5, -9.3, -10.9, -11.6, -9.6),
    vh=(-24.3, -15.1, -17.4, -18.6, -16.7),
    level_std=(3.9, 1.3, 2.3, 2.1, 2.5),
    ratio_std=(2.9, 0.5, 0.8, 1.2, 1.2),
    texture=(2.2, 1.1, 1.5, 2.1, 2.2),
    texture_spread=(0.5, 0.6, 0.5, 0.5, 0.5),
    ratio_texture=(1.5, 0.6, 0.8, 1.2, 1.6),
    looks=6.7,
    blur=(0.434, 0.241, 0.042),
    noise=-30.0,
    noise_std=2.5,
)
