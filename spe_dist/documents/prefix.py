"""How long the question in front of a document may be: [CLS] relation head [SEP] document [SEP]."""

RELATION_PIECES, HEAD_PIECES = 16, 14  # at most, of the relation's name and of a mention of the head
PREFIX_PIECES = RELATION_PIECES + HEAD_PIECES + 1  # and [SEP]
