"""Lines as the scorer of SemEval-2010 task 8 reads them, and its definition once more, slowly."""

from spe_dist.sentence_relations.marked_sentence import MarkedSentence
from spe_dist.sentence_relations.scoring import SentenceRelationsScoring


def relations_of(lines: str) -> dict[str, str]:
    return dict(line.split("\t") for line in lines.split("\n") if line.strip())


def as_sentence(name: str, relation: str | None) -> MarkedSentence:
    return MarkedSentence(name, ("a", "b"), (0, 1), (1, 2), None if relation == "Other" else relation)


def scores(key: dict[str, str], answers: dict[str, str]) -> dict[str, float]:
    """In percent, two decimals; what is not answered is as if it were answered with no relation."""
    gold = [as_sentence(name, relation) for name, relation in key.items()]
    found = [as_sentence(name, answers.get(name)) for name in key]
    return {name: round(100 * value, 2) for name, value in SentenceRelationsScoring().scores(gold, found).items()}


def slow_scores(key: dict[str, str], answers: dict[str, str]) -> dict[str, float]:
    def f1(right, found, gold):
        p, r = right / found if found else 0.0, right / gold if gold else 0.0
        return 2 * p * r / (p + r) if p + r else 0.0

    base = {relation.split("(")[0] for relation in key.values()} - {"Other"}
    of_each = []
    for one in sorted(base):
        right = sum(key[n] == answers.get(n) for n in key if key[n].split("(")[0] == one)
        found = sum(answers[n].split("(")[0] == one for n in key if n in answers)
        of_each.append(f1(right, found, sum(relation.split("(")[0] == one for relation in key.values())))
    right = sum(key[n] == answers.get(n) != "Other" for n in key)
    found = sum(answers.get(n, "Other") != "Other" for n in key)
    micro = f1(right, found, sum(relation != "Other" for relation in key.values()))
    macro = sum(of_each) / len(of_each) if of_each else 0.0
    known = sum(answers.get(n, "Other").split("(")[0] in base for n in key)
    semeval = f1(right, known, sum(relation != "Other" for relation in key.values()))
    values = {"micro_f1": micro, "semeval_macro_f1": macro, "semeval_micro_f1": semeval}
    return {name: round(100 * value, 2) for name, value in values.items()}
