"""Readers of annotated data: every format ends as a list of `AnnotatedSentence` and a report of what was found.

The rule: what cannot be right (an offset beyond its sentence, a number of no entity, a missing field) is an error that
names file and line. What is right but has no place in a sentence (a relation across sentences, or of something that is
no entity) is left out and counted. Overlapping entities and long sentences are kept as they are.
"""
