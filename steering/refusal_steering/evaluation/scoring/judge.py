"""A model as judge, through any OpenAI-compatible server; what is no verdict is no success."""

from __future__ import annotations

from refusal_steering.evaluation.case import Case, Content
from refusal_steering.evaluation.endpoint import Endpoint
from refusal_steering.evaluation.scoring.judgement import Judgement
from refusal_steering.evaluation.scoring.rubric_name import RubricName
from refusal_steering.evaluation.scoring.rubrics import RUBRICS


class Judge:
    """Grades an answer to a case by a rubric; the name holds the judge's model.

    A judge that ``sees_media`` is shown the pictures, videos and sounds of the request as well.
    """

    def __init__(self, endpoint: Endpoint, sees_media: bool = False) -> None:
        self._endpoint = endpoint
        self._sees_media = sees_media

    @property
    def model(self) -> str:
        """The judge's model."""
        return self._endpoint.model

    @property
    def name(self) -> str:
        """Stands beside every number that rests on this judge."""
        return f"judge:{self._endpoint.model}"

    async def __call__(self, case: Case, answer: str, rubric: RubricName) -> Judgement:
        """The judge's verdict, or an account of what came instead."""
        chosen = RUBRICS[rubric]
        content: Content = chosen.question(case, answer)
        if self._sees_media and case.media:
            content = [*map(dict, case.media), {"type": "text", "text": content}]
        system = {"role": "system", "content": chosen.instructions}
        reply = await self._endpoint.chat(
            [system, {"role": "user", "content": content}], chosen.max_tokens
        )
        if reply.error is not None:
            return Judgement(error=reply.error)
        return chosen.read(reply.text or "")
