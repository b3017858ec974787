"""The features of many pairs of images, each image's read as seldom as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tpsfm.features.base import Features

Pair = tuple[str, str]


def pair_features(
    read: Callable[[str], Features], pairs: Iterable[Pair], memory: int = 256 << 20
) -> Iterator[tuple[Pair, tuple[Features, Features]]]:
    """The features of each pair of images: jobs for `in_parallel`.

    Features are held for as many images as `memory` allows; every partner of one of them is then read once and comes
    with all of them, before the next images take their place.

    Args:
        read: gives an image's features by its name, such as a matcher takes them.
        pairs: (name0, name1); a pair given twice or the other way round too comes once.
        memory: bytes of features held at a time, beside a few images in passing; an image of 8,192 keypoints
            and 128 floats each takes 4 MiB, half of that in bfloat16.

    Yields:
        ((name0, name1), (features0, features1)) with name0 < name1.
    """
    partners: dict[str, set[str]] = {}
    for name0, name1 in pairs:
        partners.setdefault(name0, set()).add(name1)
        partners.setdefault(name1, set()).add(name0)
    while partners:
        held: dict[str, Features] = {}
        room = memory
        for name in sorted(partners):
            if room <= 0:
                break
            held[name] = read(name)
            room -= held[name].nbytes
        for partner in sorted(set().union(*(partners[name] for name in held))):
            mates = partners[partner] & held.keys()
            if partner in held:
                mates = {name for name in mates if name < partner}
            features = held[partner] if partner in held else read(partner)
            for name in sorted(mates):
                if name < partner:
                    yield (name, partner), (held[name], features)
                else:
                    yield (partner, name), (features, held[name])
        for name in held:
            for partner in partners.pop(name):
                if partner in partners:
                    partners[partner].discard(name)
        partners = {name: rest for name, rest in partners.items() if rest}
