"""``python -m studies.heat.mixers -opt FILE``: train a network with a mixer of the study."""

from __future__ import annotations

from vheatir.train import main

if __name__ == "__main__":
    raise SystemExit(main())
