"""What a method of semantic segmentation is given; only rows that agree in it may be ranked.

All rows, or the teacher that they ask, learn from the labels of all training images, in the same
windows under the same clouds.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...segmentation_options import SegmentationOptions


@dataclass(frozen=True)
class MapGifts:
    """What a method is given beside cloudy images, SAR and labels.

    Attributes:
        clear_images: Whether it, or its teacher, sees the training images without clouds.
        cloud_masks: Whether it is told which pixels of a training image are cloudy.
        drops: Whether it learns to do without a modality (``student.drop_share``).
        trained: Whether it learns anything under clouds.
    """

    clear_images: bool = False
    cloud_masks: bool = False
    drops: bool = False
    trained: bool = True


#: A network and the labels.
PLAIN = MapGifts()
#: What CloudSeg is given.
AS_PUBLISHED = MapGifts(clear_images=True, cloud_masks=True)
#: What ours is given.
EQUIPPED = MapGifts(clear_images=True, cloud_masks=True, drops=True)


@dataclass(frozen=True)
class MapTold:
    """What a row of a run is told.

    Attributes:
        clear_images: Whose images without clouds it, or its teacher, learns from.
        cloud_masks: Where the cloud masks that it learns from come from.
        drop_share: Share of training samples that lose a modality.
        epochs: Passes over the training images under clouds.
        trials: Settings that were tried for it on this benchmark; always none.
    """

    clear_images: str
    cloud_masks: str
    drop_share: float
    epochs: int
    trials: int = 0


def map_told(gifts: MapGifts, options: SegmentationOptions) -> MapTold:
    """Return what a method of a run is told."""
    return MapTold(
        clear_images="training" if gifts.clear_images else "none",
        cloud_masks=options.cloud_mask if gifts.cloud_masks else "none",
        drop_share=options.student.drop_share if gifts.drops else 0.0,
        epochs=options.student.schedule.epochs if gifts.trained else 0,
    )
