"""Makes `benchmarks` importable: the root is not on the path, since it would offer a second copy of every room."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

benchmarks = ModuleType("benchmarks")
benchmarks.__path__ = [str(Path(__file__).parent.parent / "benchmarks")]
sys.modules.setdefault("benchmarks", benchmarks)
