"""A chat through LangChain: whole and streamed, with the steering report.

    pip install langchain-openai
    python examples/langchain_chat.py [http://127.0.0.1:8000/v1]

REFUSAL_SERVER_API_KEY holds the key where the server needs one.
"""

from __future__ import annotations

import os
import sys

from langchain_openai import ChatOpenAI
from openai import OpenAI


def main() -> int:
    """Ask twice, and print both answers with what steering did."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
    key = os.environ.get("REFUSAL_SERVER_API_KEY", "none")
    model = next(iter(OpenAI(base_url=url, api_key=key).models.list())).id
    chat = ChatOpenAI(
        model=model,
        base_url=url,
        api_key=key,
        temperature=0,
        max_tokens=32,
        # Ours goes along as it is; LangChain keeps the answer's headers where it is asked to.
        extra_body={"steering": {"report": True}},
        include_response_headers=True,
    )
    question = "What is the capital of France?"
    whole = chat.invoke(question)
    say(f"whole: {whole.content}")
    say(f"header: {whole.response_metadata['headers']['x-steering']}")
    pieces = [str(piece.content) for piece in chat.stream(question)]
    say(f"streamed: {''.join(pieces)} ({len(pieces)} pieces)")
    return 0


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
