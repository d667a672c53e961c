"""What real Sentinel-1 backscatter looks like per ground cover, as the simulator needs it.

`MEASURED` was measured by ``docs/sar_simulation.py`` on real pairs of clear Sentinel-2 and
Sentinel-1: 15 triplets and one more of SEN12MS-CR (CC-BY 4.0; sigma0 in dB, ground range detected,
terrain corrected to 10 m) and the Spanish pair and ten further SAR chips with water labels of
Sen1Floods11 (CC-BY 4.0). The unit is a chip of 64 x 64 pixels; every place counts alike, the ten
flooded ones as one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backscatter:
    """Statistics of sigma0 per cover, in the order of `covers.COVERS`; dB unless stated.

    Attributes:
        vv: Middle over places of the mean of the chips' median VV.
        vh: The same of VH.
        level_std: Spread of the chips' median VV, half of the middle 68 %.
        ratio_std: The same of the chips' median VV - VH.
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
    vv=(-20.34, -9.26, -11.26, -11.87, -7.90),
    vh=(-25.89, -15.02, -17.98, -18.71, -15.92),
    level_std=(2.18, 1.24, 2.70, 1.86, 3.67),
    ratio_std=(2.62, 0.68, 1.02, 1.18, 1.17),
    texture=(1.31, 0.72, 0.99, 1.80, 2.40),
    texture_spread=(0.74, 0.82, 0.81, 0.71, 0.47),
    ratio_texture=(1.25, 0.49, 0.54, 1.09, 1.78),
    looks=7.0,
    blur=(0.435, 0.239, 0.043),
    # Not measured by the script: where VH is darkest over water in Sen1Floods11 and in the savanna,
    # speckle grows as if 10 ** -2.9 to 10 ** -3.2 had been subtracted.
    noise=-30.0,
    noise_std=2.5,
)
