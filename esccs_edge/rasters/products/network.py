"""How files at addresses are read: one request at a time is waited for, and none for ever.

GDAL itself waits without end for a server that took the connection and then says nothing, which
is what a lost network, a sleeping disk of a server and many proxies look like.
"""

from __future__ import annotations

import os

#: Seconds until a connection must stand, and for which it may stay silent.
CONNECT_S, SILENCE_S = 10, 30
#: Below this many bytes a second a connection counts as silent.
_SILENT_BYTES_S = 1
#: A server that asks to come back later is asked again so often, after so many seconds at first.
_RETRIES, _RETRY_AFTER_S = 2, 1

#: Scheme of an address -> GDAL's reader of it.
READERS = {"http": "vsicurl", "https": "vsicurl", "s3": "vsis3", "gs": "vsigs", "az": "vsiaz"}
#: What to do about an address that cannot be read.
NETWORK_HINT = (
    "Try the address with another tool, and look at the network and at HTTPS_PROXY; "
    "GDAL_HTTP_LOW_SPEED_TIME and GDAL_HTTP_CONNECTTIMEOUT say how many seconds are waited"
)


def is_on_network(file: str) -> bool:
    """Return whether GDAL's name of a file is read through a network."""
    return file.startswith(tuple(f"/{reader}/" for reader in READERS.values()))


def network_options(*, remote: bool) -> dict[str, str]:
    """Return GDAL's options for reading addresses; what the environment sets is left to it.

    Args:
        remote: Whether addresses may be read; if not, there are none.
    """
    if not remote:
        return {}
    options = {
        # Else whole web folders and buckets are listed for files beside the one asked for.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_CONNECTTIMEOUT": str(CONNECT_S),
        "GDAL_HTTP_LOW_SPEED_LIMIT": str(_SILENT_BYTES_S),
        "GDAL_HTTP_LOW_SPEED_TIME": str(SILENCE_S),
        "GDAL_HTTP_MAX_RETRY": str(_RETRIES),
        "GDAL_HTTP_RETRY_DELAY": str(_RETRY_AFTER_S),
    }
    return {name: value for name, value in options.items() if name not in os.environ}
