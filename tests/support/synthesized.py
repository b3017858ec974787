"""A synthesized scene as tpsfm's stages see it."""

import zlib  # noqa: F401  before pycolmap

import numpy as np
import pycolmap

from tpsfm import colmap
from tpsfm.geometry import Pose
from tpsfm.photos import Photo

INFO = Photo(1024, 768)


class Scene:
    """A synthesized scene as tpsfm's stages would see it: infos, keypoints, matches, true poses."""

    def __init__(self, frames=8, seed=0, noise=0.3, outliers=0.2):
        pycolmap.set_random_seed(seed)
        options = {"num_rigs": 1, "num_frames_per_rig": frames, "num_points3D": 400, "track_length": -1}
        reconstruction = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(options))
        rng = np.random.default_rng(seed)
        self.truth, self.points, seen = {}, {}, {}
        for image in reconstruction.images.values():
            name = f"a folder/{image.name}".replace("frame", "größe ")
            pose = image.cam_from_world()
            self.truth[name] = Pose(0, pose.rotation.matrix(), pose.translation)
            xy = np.array([point.xy for point in image.points2D])
            # Half a pixel off COLMAP's: what the adapter has to add again.
            self.points[name] = (xy + rng.normal(0, noise, xy.shape) - 0.5).astype(np.float32)
            seen[name] = {p.point3D_id: i for i, p in enumerate(image.points2D) if p.has_point3D()}
        self.infos = dict.fromkeys(self.truth, INFO)
        self.matches = []
        names = sorted(self.truth)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                common = sorted(seen[first].keys() & seen[second].keys())
                pairs = np.array([(seen[first][k], seen[second][k]) for k in common], np.uint32)
                wrong = rng.random(len(pairs)) < outliers
                pairs[wrong, 1] = rng.permutation(pairs[wrong, 1])
                self.matches.append((first, second, pairs))

    def database(self, path, **options):
        """Write the matches and the images; how many pairs have matches."""
        with colmap.PairTable(path, create=True) as table:
            table.retain(self.infos, {(a, b): "key" for a, b, _ in self.matches})
            for a, b, matches in self.matches:
                table.write((a, b), matches, "key")
        camera_of = colmap.group_cameras(self.infos, "single")
        colmap.write_images(path, self.infos, camera_of, self.points.__getitem__, **options)
        with colmap.PairTable(path) as table:
            return len(table.counts()[0])
