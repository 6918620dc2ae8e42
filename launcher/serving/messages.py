"""Requests and responses: what is checked, and what the OpenAPI page says."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator


def _string(value: object) -> str:
    """Pydantic's own strings refuse half of a surrogate pair, which JSON can hold and an extractor takes."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


Text = Annotated[str, PlainValidator(_string), WithJsonSchema({"type": "string"})]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ExtractRequest(BaseModel):
    """Texts to read; give either `text` or `texts`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"texts": ["Marie Curie was born in Warsaw."], "min_relation_score": 0.5}]},
    )
    text: Text | None = Field(None, description="One text.")
    texts: list[Text] | None = Field(None, description="Several texts, of one sentence or many.")
    model: Text | None = Field(None, description="Name of the model. Default: that of the path, or the first.")
    min_entity_score: Score = Field(0.0, description="Drop entities with a lower score, and their relations.")
    min_relation_score: Score = Field(0.0, description="Drop relations with a lower score.")

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError('give either "text" or "texts"')
        return self

    def all_texts(self) -> list[str]:
        """The texts of the request, whether it gives one or several."""
        return [self.text] if self.text is not None else self.texts or []


class FoundEntity(BaseModel):
    """Characters of a text that name something."""

    type: str
    start: int = Field(description="First character (Unicode code points).")
    end: int = Field(description="One past the last character.")
    text: str
    score: float = Field(description="Probability that the characters and the type are correct.")


class FoundRelation(BaseModel):
    """A directed relation of two entities."""

    type: str
    head: int = Field(description="Number of an entity in the list of this text.")
    tail: int
    score: float = Field(description="Probability that both entities, type and direction are correct.")


class FoundText(BaseModel):
    """What is in a text: the same as a line of `spe predict`."""

    text: str
    entities: list[FoundEntity]
    relations: list[FoundRelation]


class ExtractResponse(BaseModel):
    """A result for each text, in the order of the request."""

    model: str
    version: str = Field(description="First characters of the SHA-256 of the model's files.")
    results: list[FoundText]


class ModelDescription(BaseModel):
    """A model that answers."""

    name: str
    version: str
    entity_types: list[str]
    relation_types: list[str]


class Health(BaseModel):
    """The service is there."""

    status: str
    requests: int = Field(description="Requests that are being answered, without those that need no token.")


class ErrorMessage(BaseModel):
    """Why there is no result."""

    error: str


def explain(errors: list[dict[str, Any]]) -> str:
    """The first of pydantic's errors about a request, in one line."""
    first = errors[0]
    if first["type"] in ("model_attributes_type", "model_type", "dict_type"):
        return 'the body is no JSON object: send one, such as {"text": "…"}'
    place = ".".join(str(part) for part in first["loc"] if part != "body" and not str(part).startswith("function-"))
    if first["type"] == "extra_forbidden":
        return f"unknown field {place}; the fields are: {', '.join(ExtractRequest.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message[:1].lower()}{message[1:]}" if place else message
