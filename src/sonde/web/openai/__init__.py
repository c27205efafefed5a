"""The protocol of OpenAI's API, spoken by a model whose features can be turned.

Clients of that API work unchanged. A request may carry `edits`, and a preset of the index is a model of its own, as
world#golden-gate, for clients that know nothing of edits. Source of the shapes: OpenAI's API reference, chat
completions and completions.
"""

from sonde.web.openai.routes import router

__all__ = ["router"]
