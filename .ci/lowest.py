"""Print the lowest versions that pyproject.toml allows the runtime, as constraints for pip."""

from __future__ import annotations

import re
from importlib.metadata import requires

EXTRAS = {"", "geo", "view", "test"}
BOUND = re.compile(r"([\w-]+)>=([\w.]+)\s*(?:;\s*extra == ['\"](\w+)['\"])?")

for requirement in requires("esccs-edge") or ():
    found = BOUND.fullmatch(requirement)
    if found and (found[3] or "") in EXTRAS:
        print(f"{found[1]}=={found[2]}")

# Later ones warn of the names by which matplotlib 3.7 calls them, and warnings fail a test.
print("pyparsing<3.3")
