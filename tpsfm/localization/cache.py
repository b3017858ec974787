"""What is known of each query already, so that a session goes on where it stopped."""

from __future__ import annotations

import json

import numpy as np

from tpsfm.features import Features
from tpsfm.io.store import FeatureStore
from tpsfm.localization.output import from_record, to_record
from tpsfm.localization.pose import Localization

STORE = "localization.h5"


class LocalizationStore(FeatureStore):
    """Localizations by the query's name, each complete once it is written, and features of those that need them.

    A group holds `localization` uint8, the JSON text that localization.json has of it, and the arrays `matches` and
    `lines` as `Localization` describes them.
    """

    kind = "localizations"
    command = "tpsfm localize"

    def keep(self, result: Localization, features: Features | None, key: str) -> None:
        """Store a query, in place of any of that name.

        Raises:
            TpsfmError: the file can't be written.
        """
        self.discard(result.name)
        if features is not None:
            self.write(result.name, features, key)
        text = np.frombuffer(json.dumps(to_record(result)).encode(), np.uint8)
        arrays = {"localization": text, "matches": result.matches, "lines": result.lines}
        self._put(result.name, "localization_record", arrays, key)

    def find(self, name: str, key: str, with_features: bool) -> tuple[Localization, Features | None] | None:
        """A query stored under that key, with its features if they are wanted; None where that isn't there.

        Raises:
            TpsfmError: the file is damaged.
        """
        if self._keys.get((name, "localization_record")) != key:
            return None
        text, matches, lines = self._get(name, "localization_record", ["localization", "matches", "lines"])
        result = from_record(json.loads(text.tobytes()))
        result.matches, result.lines = matches, lines
        if not with_features or result.pose is None:
            return result, None
        return (result, self.read(name)) if self.key(name) == key else None
