"""The scalars that events are made of, with what their readers refuse."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware instant; every writer writes UTC, a reader refuses one without an offset."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""Whatever is counted: tokens, seconds, versions, offsets. At most what JSON carries exactly everywhere."""
