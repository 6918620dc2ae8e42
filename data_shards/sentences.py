"""Documents → sentences."""

from __future__ import annotations


def split_sentences(document: str, language: str = "en") -> list[str]:
    """Sentences of a document whose paragraphs are separated by newlines; no sentence holds a newline or is empty."""
    return [document[start:end] for start, end in locate_sentences(document, language)]


def locate_sentences(document: str, language: str = "en") -> list[tuple[int, int]]:
    """The characters of each sentence, half-open, without white space around it; see `split_sentences`."""
    import sentencex  # reading shards needs no splitter

    places, paragraph_start = [], 0
    for paragraph in document.split("\n"):
        for found in sentencex.get_sentence_boundaries(language, paragraph):
            part = paragraph[found["start_index"] : found["end_index"]]
            if sentence := part.strip():
                start = paragraph_start + found["start_index"] + len(part) - len(part.lstrip())
                places.append((start, start + len(sentence)))
        paragraph_start += len(paragraph) + 1
    return places
