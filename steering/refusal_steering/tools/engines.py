"""The offline engine of a command, set up as a server would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from refusal_steering.calibration.engine_arguments import ServedSettings
from refusal_steering.tools.models import check_available

if TYPE_CHECKING:
    from refusal_steering.engine import EngineFacts
    from refusal_steering.vllm_plugin.offline import OfflineModel, Template


def facts_of(model: str, settings: ServedSettings, name: str | None = None) -> EngineFacts:
    """What vLLM says of ``model`` before it is loaded; a folder's files are checked first."""
    check_available(model, settings.engine.get("hf_token"))
    # Loads vLLM, which takes seconds.
    from refusal_steering.vllm_plugin.model_facts import model_facts

    return model_facts(model, _template(settings), settings.engine, name)


@contextmanager
def running(
    facts: EngineFacts,
    settings: ServedSettings,
    *,
    steered: bool,
    gate_layers: tuple[int, ...] = (),
) -> Iterator[OfflineModel]:
    """The engine for the time of the block.

    With ``steered`` it can load bundles, and with ``gate_layers`` those with gates that read them.
    """
    from refusal_steering.vllm_plugin.offline_engine import offline_model

    template, engine = _template(settings), settings.engine
    with offline_model(facts, template, engine, steered=steered, gate_layers=gate_layers) as model:
        yield model


def _template(settings: ServedSettings) -> Template:
    from refusal_steering.vllm_plugin.offline import Template

    return Template(settings.template, settings.content_format, settings.template_arguments)
