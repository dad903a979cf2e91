"""Ask for every page outside of the built site that it links to: `make links`, by hand, since it needs a network."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

LINK = re.compile(r'(?:href|src)="(https?://[^"#]+)')
PATIENCE = 20.0  # seconds


def links(site: Path) -> dict[str, Path]:
    """Each address outside, with one page that names it."""
    return {link: page for page in sorted(site.rglob("*.html")) for link in LINK.findall(page.read_text())}


def dead(addresses: dict[str, Path]) -> Iterator[str]:
    """What came of those that don't answer."""
    for address, page in addresses.items():
        asked = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (strop's documentation)"})
        try:
            urllib.request.urlopen(asked, timeout=PATIENCE).close()
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            yield f"{page}: {address}: {error}"


if __name__ == "__main__":
    found = links(Path(sys.argv[1]))
    lost = [*dead(found)]
    print(*lost, f"{len(found)} links to pages outside, {len(lost)} dead", sep="\n")
    sys.exit(bool(lost))
