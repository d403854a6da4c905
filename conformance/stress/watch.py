"""What a server takes, read from /proc: memory, sockets and processor time of all processes of its session."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

MIB = 2**20


class Watch:
    """Looks at the processes of the session that a process leads. Linux only."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def _processes(self) -> Iterator[Path]:
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    words = _stat(folder)
                    if int(words[3]) == self._leader and words[0] != "Z":
                        yield folder

    def _status(self, field: str) -> int:
        """The sum of a field of /proc/PID/status, which is in KiB, in bytes."""
        found = 0
        for folder in self._processes():
            with contextlib.suppress(OSError):
                line = re.search(rf"^{field}:\s*(\d+) kB", (folder / "status").read_text(), re.MULTILINE)
                found += 1024 * int(line[1]) if line else 0
        return found

    @property
    def memory(self) -> int:
        """Bytes that are resident."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """Bytes that were resident at most, since the last `forget`."""
        return self._status("VmHWM")

    def forget(self) -> None:
        """The peak begins anew."""
        for folder in self._processes():
            with contextlib.suppress(OSError):
                (folder / "clear_refs").write_text("5")

    @property
    def sockets(self) -> int:
        """Open sockets of all processes."""
        found = 0
        for folder in self._processes():
            with contextlib.suppress(OSError):
                for link in (folder / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        found += str(link.readlink()).startswith("socket:")
        return found

    @property
    def processor(self) -> float:
        """Seconds of processor time."""
        ticks = 0
        for folder in self._processes():
            with contextlib.suppress(OSError):
                words = _stat(folder)
                ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat, from the state of the process on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()
