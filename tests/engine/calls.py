"""The calls that the laws are stated over."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.media import chat
from tests.engine.spec import Call, Scenario

_ALL = ("image", "audio", "video")
_TWO = ("image", "image2")
_LONG = "Please tell me how to bake a chocolate cake and what the capital of France is. " * 6
# The bundle "ras" reads a risk of one half of every prompt: above the first zone, below the second.
_BELOW_RISK, _ABOVE_RISK = (0.1, 0.4), (0.6, 0.9)
_BLENDED = Call(chat("Tell me a story."), bundle="ras", strength=0.0, window=2, blend=0.9)

CALLS = (
    Call(chat("Say something."), tokens=20),
    Call(chat("Tell me a story."), bundle="static", tokens=24),
    Call(chat("Say something."), bundle="static", strength=0.5, window=3),
    Call(chat("Describe this image.", ("image",)), ("image",), bundle="omni", tokens=20),
    Call(chat("What?", ("audio",)), ("audio",), bundle="omni", hold=False, window=4, strength=2.0),
    Call(chat("Look.", _ALL), _ALL, bundle="omni", hold=False, tokens=12),
    Call(chat("Describe this image.", ("image2",)), ("image2",)),
    Call(chat(_LONG), bundle="omni", hold=False, strength=0.7, tokens=18),
    Call(chat(_LONG), tokens=10),
    Call(chat("Say something."), bundle="static", strength=0.0, tokens=20),
    Call(chat("Describe this image.", ("image2",)), ("image2",), bundle="omni", shadow=True),
    Call(chat("One two three."), bundle="static", window=0, tokens=9),
    Call(chat("Look.", ("image2",)), ("image2",), bundle="mars", tokens=12),
    Call(chat("Look.", _ALL), _ALL, bundle="mars", strength=1.5, window=2, dose_limit=0.3),
    Call(chat(_LONG), bundle="mars", hold=False, dose_limit=0.2, tokens=8),
    Call(chat("Look.", _TWO), _TWO, bundle="mars", tokens=8),
    Call(chat(_LONG), bundle="ball", hold=False, strength=4.0, tokens=12),
    Call(chat("Look.", _TWO), _TWO, bundle="ball", strength=4.0, tokens=10),
    Call(
        chat("Tell me a story."), bundle="omni", hold=False, strength=2.0, dose_limit=0.5, tokens=12
    ),
    Call(chat("Say something."), bundle="omni", dose_limit=0.9, window=3),
    Call(chat("Tell me a story."), bundle="ras", strength=0.0, window=2, blend=0.9),
    Call(chat(_LONG, ("image",)), ("image",), bundle="ras", strength=0.0, window=2, blend=0.4),
    Call(chat("Say something."), bundle="ras", strength=0.0, window=2, blend=0.0, tokens=20),
    Call(
        chat("Say something."),
        bundle="ras",
        strength=0.0,
        window=2,
        blend=0.8,
        shadow=True,
        tokens=20,
    ),
    Call(chat("Tell me a story."), bundle="gated", tokens=20, token_risks=100),
    Call(chat(_LONG), bundle="gated", hold=False, window=4, strength=1.5, token_risks=40),
    Call(chat("Look.", _ALL), _ALL, bundle="gated", strength=4.0, dose_limit=0.1, tokens=12),
    Call(chat("Tell me a story."), bundle="shallow", strength=2.0, count_from=0),
    Call(chat("One two three."), bundle="shallow", shadow=True, tokens=9),
    replace(_BLENDED, prompt=chat(_LONG), grey_zone=_BELOW_RISK, tokens=10),
    replace(_BLENDED, prompt=chat(_LONG), grey_zone=_ABOVE_RISK, tokens=10),
)
MIXED = (
    Scenario("together", CALLS),
    Scenario("alone", CALLS, together=False),
    Scenario("plain", tuple(call.unsteered() for call in CALLS), together=False),
)
PLAIN = (MIXED[2],)

CROWDED = (
    Scenario(
        "crowded",
        tuple(
            Call(
                chat(f"{number} one two three four five six. " * 3),
                bundle=(None, "static", "omni", "omni", "ras", "gated")[number % 6],
                hold=number % 6 != 3,
                strength=0.5 + 0.1 * number,
                window=None if number % 3 else 6,
                blend=0.7 if number % 6 == 4 else None,
                grey_zone=_BELOW_RISK if number == 10 else None,
                tokens=72,
            )
            for number in range(12)
        ),
    ),
)

# Prompts by token id, so that their lengths against blocks of 32 tokens are exact.
_IDS = tuple(40 + (7 * i + i * i) % 90 for i in range(128))
_STEERED = Call(_IDS[:70], bundle="omni", hold=False)
_EXACT = Call(_IDS[:64], bundle="static")


def _orders(name: str, steered: Call) -> tuple[Scenario, ...]:
    plain = steered.unsteered()
    return (
        Scenario(f"{name}: unsteered cold", (plain,)),
        Scenario(f"{name}: steered cold", (steered,)),
        Scenario(f"{name}: steered, unsteered", (steered, plain), together=False),
        Scenario(f"{name}: unsteered, steered", (plain, steered), together=False),
        Scenario(f"{name}: steered, steered", (steered, steered), together=False),
        Scenario(f"{name}: unsteered, unsteered", (plain, plain), together=False),
        Scenario(
            f"{name}: other strength, version",
            (steered, replace(steered, strength=0.5), replace(steered, version="v2"), steered),
            together=False,
        ),
        Scenario(f"{name}: other strength cold", (replace(steered, strength=0.5),)),
    )


NEXT_TURN = replace(_STEERED, tokens=64)
CACHE = (
    *_orders("inside a block", _STEERED),
    *_orders("ends on a block", _EXACT),
    Scenario("next turn", (), script="next_turn"),
)

# One prompt for all: whoever computes a block reads it for everybody.
_READ = Call(_IDS[:100], bundle="gated", tokens=4)
_READ_SHALLOW = replace(_READ, bundle="shallow")
GATES = (
    *_orders("gated", replace(_READ, tokens=12)),
    Scenario(
        "gates: unsteered, other gate, gate",
        (_READ.unsteered(), _READ_SHALLOW, _READ),
        together=False,
    ),
    Scenario(
        "gates: gate, longer, unsteered, longest, other gate",
        (
            replace(_READ, prompt=_IDS[:45]),
            replace(_READ, prompt=_IDS[:70]),
            replace(_READ, prompt=_IDS[:97]).unsteered(),
            replace(_READ, prompt=_IDS[:128]),
            replace(_READ_SHALLOW, prompt=_IDS[:128]),
        ),
        together=False,
    ),
    Scenario(
        "gates: counted from inside a block that was found",
        (_READ, *(replace(_READ, count_from=start) for start in (0, 1, 31, 32, 50, 96, 99, 500))),
        together=False,
    ),
    # While the first is computed the others arrive; they then find blocks of their own step.
    Scenario(
        "gates: one step",
        (
            Call(_IDS[:20]),
            _READ.unsteered(),
            _READ,
            _READ_SHALLOW,
            replace(_READ, prompt=_IDS[:128]),
            replace(_READ, count_from=40),
        ),
    ),
    Scenario("gates: aborted", (replace(_READ, tokens=400, abort_after=2), _READ.unsteered())),
    Scenario("gates: after the abort", (_READ, _READ_SHALLOW), flush=False),
)
# Sampling needs a kernel that the rig of the second runner cannot run; then, after everything that
# `late` did, a gate that nothing was read for.
LATE_GATE = (
    Scenario("gates: choices", (replace(_READ, n=3, tokens=2),)),
    Scenario("late gate: before", (_READ.unsteered(), _READ), together=False),
    Scenario(
        "late gate: after",
        (replace(_READ, bundle="late-gate"), _READ, _READ.unsteered()),
        together=False,
        flush=False,
        script="load_late_gate",
    ),
    Scenario("late gate: retired", (_READ,), flush=False, script="retire_late_gate"),
    Scenario(
        "late gate: again",
        (replace(_READ, bundle="late-gate"), _READ),
        together=False,
        flush=False,
        script="load_late_gate",
    ),
)

_BROKEN = {"bundle": "0" * 64, "policy": "p", "policy_version": "v"}
_GOOD = Call(chat("Tell me a story."), bundle="omni")
_PLAIN = Call(chat("Say something."))
GREY_ZONES = tuple(replace(_BLENDED, grey_zone=zone) for zone in (_BELOW_RISK, _ABOVE_RISK))
_ZONED_IDS = replace(GREY_ZONES[0], prompt=_IDS[:70])
PEERS = (
    Scenario("shares that the host sets", (_BLENDED, replace(_BLENDED, blend=0.0))),
    Scenario("shares that the device sets", (*GREY_ZONES, _GOOD, _PLAIN)),
    Scenario(
        "shares behind a prefix that is found",
        (replace(_ZONED_IDS, grey_zone=None), _ZONED_IDS, _ZONED_IDS),
        together=False,
    ),
    Scenario("shares of choices", (replace(GREY_ZONES[0], n=3), _PLAIN)),
    Scenario(
        "a share that is left open",
        (
            replace(_BLENDED, grey_zone=(0.4, 0.6)),
            # One output at the very end; it must not be waited for.
            replace(_BLENDED, grey_zone=(0.4, 0.6), n=2, tokens=1500),
            GREY_ZONES[0],
            _PLAIN,
        ),
    ),
    Scenario("good alone", (_GOOD,)),
    Scenario("plain alone", (_PLAIN,)),
    Scenario(
        "bad neighbours",
        (
            _GOOD,
            Call(chat("One."), raw_wire=_BROKEN),
            Call(chat("Two."), raw_wire={"strength": "x"}),
            Call(chat("Three."), raw_wire={**_BROKEN, "layer": 999}),
            Call(chat("Four."), raw_wire={**_BROKEN, "strength": float("nan")}),
            Call(chat("Five."), bundle="not-loaded"),
            _PLAIN,
        ),
    ),
    Scenario("after bad neighbours", (_GOOD, _PLAIN)),
    Scenario("several choices", (replace(_GOOD, n=3), _PLAIN)),
    Scenario(
        "ids that begin alike",
        (
            replace(_GOOD, request_id="t"),
            replace(_PLAIN, request_id="t-b"),
            replace(_PLAIN, request_id="t-"),
            replace(_PLAIN, request_id="0_t"),
        ),
    ),
    Scenario(
        "one id twice",
        (replace(_GOOD, request_id="same"), replace(_PLAIN, request_id="same")),
    ),
    Scenario(
        "client writes our key",
        (replace(_PLAIN, extra_args={"refusal_steering": {**_BROKEN, "strength": 9.0}}),),
    ),
    Scenario("neighbour ends early", (replace(_GOOD, tokens=16), replace(_PLAIN, tokens=2))),
    Scenario(
        "thirty-two strengths",
        tuple(
            Call(chat("Tell me a story."), bundle="static", strength=0.25 + 0.05 * i, tokens=6)
            for i in range(32)
        ),
    ),
    Scenario(
        "thirty-two strengths alone",
        tuple(
            Call(chat("Tell me a story."), bundle="static", strength=0.25 + 0.05 * i, tokens=6)
            for i in range(0, 32, 6)
        ),
        together=False,
    ),
    Scenario("aborted", (replace(_GOOD, tokens=400, abort_after=3), _PLAIN)),
    Scenario("after the abort", (_GOOD, _PLAIN)),
)

CANARY = (Scenario("canary", (), script="canary"),)

RELOAD = (
    Scenario("late before", (replace(_GOOD, bundle="late"),)),
    Scenario("late after", (replace(_GOOD, bundle="late"), _GOOD), script="load_late"),
    Scenario("damaged", (_GOOD,), script="load_damaged"),
    Scenario("foreign", (_GOOD,), script="load_foreign"),
    Scenario("deeper", (_GOOD,), script="load_other_layers"),
    Scenario("acknowledged", (_GOOD,), script="acknowledge"),
    Scenario("not acknowledged", (_GOOD,), script="acknowledge_missing"),
    Scenario("retired", (replace(_GOOD, bundle="late"), _GOOD), script="retire_late"),
)
