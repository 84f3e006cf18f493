"""Receive an inbox into a destination, as a process of its own: python tests/receiving_process.py SETTINGS DESTINATION.

Prints a line at every progress of a mebibyte, and at the end its memory above idle in KiB.
"""

from __future__ import annotations

import sys

from memory_probe import idle, status
from nel_mesh import MeshClient, MeshSettings, ReceiveProgress, open_destination

MIB = 1024 * 1024


def main() -> None:
    settings, place = sys.argv[1:]
    destination = open_destination(place)
    # What its library needs is loaded, as in a worker that has been running for a while.
    destination.journal().open()
    with MeshClient(MeshSettings.from_file(settings)) as mesh:
        mesh.handshake()
        before = idle()
        said = 0

        def say(progress: ReceiveProgress) -> None:
            nonlocal said
            if progress.bytes_done >= said + MIB:
                said = progress.bytes_done
                print("at", said, flush=True)

        result = mesh.receive_messages(destination, progress=say)
        result.raise_for_failed()
        print("done", status("VmHWM") - before, result.files[0].location, flush=True)
    destination.close()


if __name__ == "__main__":
    main()
