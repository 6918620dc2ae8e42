"""Documents → sentences."""

from __future__ import annotations


def split_sentences(document: str, language: str = "en") -> list[str]:
    """Sentences of a document whose paragraphs are separated by newlines; no sentence holds a newline or is empty."""
    import sentencex  # reading shards needs no splitter

    return [
        sentence
        for paragraph in document.split("\n")
        for part in sentencex.segment(language, paragraph)
        if (sentence := " ".join(part.split("\n")).strip())
    ]
