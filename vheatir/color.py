"""Weights of R, G and B in luma, and of luma and chroma, applied to column vectors of colours."""

from __future__ import annotations

import numpy as np

#: Y of BT.601, with the range of R, G and B.
BT601_LUMA = (0.299, 0.587, 0.114)
#: Y, Cb and Cr of BT.601, (3, 3) ``float32``; chroma is centred on zero.
BT601_YCC = np.array(
    [BT601_LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)], np.float32
)
#: Y - 16 of MATLAB's ``rgb2ycbcr``, Y in 16..235, for R, G and B in [0, 1].
MATLAB_LUMA = (65.481, 128.553, 24.966)
