"""``python -m vheatir.demo``."""

from __future__ import annotations

import sys

from vheatir.demo import main

sys.exit(main())
