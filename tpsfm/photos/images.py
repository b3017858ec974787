"""Former names, until all call sites have moved."""

from tpsfm.photos.listing import IMAGE_SUFFIXES, is_portable, list_images
from tpsfm.photos.masks import read_mask
from tpsfm.photos.orientation import decoded_keypoints, turned, upright
from tpsfm.photos.photo import Photo as ImageInfo
from tpsfm.photos.photo import file_digest
from tpsfm.photos.photo import read_photo as probe
from tpsfm.photos.pixels import check_pixels, read_image

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageInfo",
    "check_pixels",
    "decoded_keypoints",
    "file_digest",
    "is_portable",
    "list_images",
    "probe",
    "read_image",
    "read_mask",
    "turned",
    "upright",
]
