"""Photos on disk: which there are, what is known of each, their pixels, their masks."""

from tpsfm.photos.catalog import PhotoCatalog, kept_photos, unchanged_photos
from tpsfm.photos.listing import existing_name, is_image, is_portable, list_images, name_below, read_lines
from tpsfm.photos.masks import Masks
from tpsfm.photos.orientation import decoded_keypoints, turned, upright, upright_keypoints
from tpsfm.photos.photo import SNAPSHOT, Photo, file_digest, read_photo
from tpsfm.photos.pixels import check_pixels, read_image

__all__ = [
    "SNAPSHOT",
    "Masks",
    "Photo",
    "PhotoCatalog",
    "check_pixels",
    "decoded_keypoints",
    "existing_name",
    "file_digest",
    "is_image",
    "is_portable",
    "kept_photos",
    "list_images",
    "name_below",
    "read_image",
    "read_lines",
    "read_photo",
    "turned",
    "unchanged_photos",
    "upright",
    "upright_keypoints",
]
