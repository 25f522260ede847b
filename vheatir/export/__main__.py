"""``python -m vheatir.export``."""

from __future__ import annotations

import sys

from vheatir.export import main

sys.exit(main())
