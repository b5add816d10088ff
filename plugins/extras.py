"""Build hook: the extras of promptmill, from the folders beside this file or, in a release, from the package index.

In a checkout an extra must install ``plugins/<name>``; once published it must name a distribution and a version.
Static metadata cannot say both, so it is decided when the metadata is made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

OURS = re.compile(r"promptmill-[a-z0-9-]+")


class ExtrasHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        """Turn each bare plugin name of the table ``extras`` into a requirement; keep every other entry."""
        folder = Path(self.root, "plugins")
        release = bool(os.environ.get("PROMPTMILL_RELEASE"))

        def requirement(entry: str) -> str:
            if not OURS.fullmatch(entry):
                return entry
            if release or not (folder / entry / "pyproject.toml").is_file():
                return f"{entry}=={metadata['version']}"
            # pip keeps the wheel of a path that ends like name-version, as promptmill-x does, and would install that
            # one again after a change of the folder. A path that ends with a dot is built each time.
            return f"{entry} @ {(folder / entry).resolve().as_uri()}/."

        extras = self.config["extras"]
        metadata["optional-dependencies"] = {
            name: [requirement(e) for e in entries] for name, entries in extras.items()
        }
