"""The public data sets that are known by name.

This package contains no part of them. Facts are from the sets' own pages and their authors' code; a
set without a fixed commit follows ``main``, and the results record the commit that was used.

Left out, because no source that could be read says what a loader must know: ViSU, whose unsafe
pictures are not published; SPA-VL's half ``help``, whose requests no source calls harmless;
MVBench's tasks on cut-outs of videos or on frames, and the one whose videos are given out on
request. Rows of these in the papers' common schema are read by ``media:FILE``.
"""

from __future__ import annotations

from refusal_steering.evaluation.suites.public.omnisteer_sets import OMNISTEER_SETS
from refusal_steering.evaluation.suites.public.public_set import PublicSet
from refusal_steering.evaluation.suites.public.safety_sets import SAFETY_SETS
from refusal_steering.evaluation.suites.public.text_sets import TEXT_SETS
from refusal_steering.evaluation.suites.public.utility_sets import UTILITY_SETS

PUBLIC_SETS: dict[str, PublicSet] = {
    known.name: known for known in (*TEXT_SETS, *SAFETY_SETS, *OMNISTEER_SETS, *UTILITY_SETS)
}
