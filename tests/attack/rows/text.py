"""Media sent to a model for text: row 31."""

from __future__ import annotations

from tests.attack.rows.media import turned_away
from tests.attack.rows.row import Row
from tests.server.fixtures.media import audio_part, image_part, video_part

ROWS = (
    Row(
        (31,),
        "image, audio, video to a model for text",
        "400 `unsupported_modality`",
        turned_away(lambda: (image_part(), audio_part(), video_part())),
    ),
)
