"""Words, name parts and sentence patterns of the embedded sample corpus (`sample_world` and `sample_corpus` use them).

The pattern language, one string per alternative:

    3* text         a leading weight (1 where none is given)
    [a|b|]          one of these, weights allowed
    <rule:ARG>      an alternative of another rule, in which every `$` stands for ARG
    {P}             a mention of the entity bound to P; its first letter says which pool it is drawn from (`POOLS`)
    {P.birth}       a mention of what P's fact `birth` points to; the sentence thereby states that fact (`FACTS`)
    {A=B}           the same, stating the facts of both paths with one mention
    {P:trade}       plain words that describe P, no mention

A sentence in which anything would be mentioned twice is drawn again, so patterns may be combined freely.
"""


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


FIRST_STARTS = _list("Al Bel Car Dor El Fran Ger Hel Is Jo Kat Lor Mar Nor Ol Per Ros Sil Tam Vic Wil Yas")
FIRST_ENDS = _list("ana bert don ena frid ian ika ina lin mund na ric rin sa tin wen vina vor")
LAST_STARTS = _list(
    "Ander Bal Brem Cal Dun Eber Fal Gran Hal Jarn Kel Lind Mor Nes Oster Pel Quin Rad Sten Tor Ut Vos Wal Yng Zim "
    "Berg Eck Hag Rosen Sand"
)
LAST_ENDS = _list(
    "bach beck berg brandt croft dahl ding feld gard gren hart holm kamp land man mann mark quist rup sen stad ström "
    "thal well witz"
)
PLACE_FIRST = _list("New Port Upper Lower North Saint Old Fort")
PLACE_STARTS = _list("Ard Bran Chel Dar Ely Fen Glen Hav Ister Kir Lang Mel Nor Ock Pen Rav Sel Thorn Ull Wes")
PLACE_ENDS = _list("bury by chester dale den field ford ham haven lund mere mouth ness port stead ton vik wick")
LAND_STARTS = _list("Bor Cas Del Gal Hes Kor Lim Mal Ost Ral Sar Tal Ul Vel")
LAND_ENDS = _list("avia enia istan mark onia oria ria ur")
REGION_ENDS = _list("adia aine egen ical ora osk una yria")
FIRM_STARTS = _list("Aero Bio Cor Dyna Elec Geo Hydro Inter Luma Macro Nova Omni Poly Stella Tele Ultra Vita Xeno")
FIRM_ENDS = _list("cast core dyne form graph line mark plex ray soft tech tron ware zon")
FIRM_TAILS = _list("Airlines Chemicals Engines Foods Group Instruments Motors Partners Shipping Steel Systems Textiles")

TITLE_ADJECTIVES = _list(
    "Broken Burning Crimson Distant Empty Endless Forgotten Frozen Gentle Golden Hidden Hollow Last "
    "Lonely Midnight Northern Painted Quiet Restless Secret Silent Silver Stolen Wandering"
)
TITLE_NOUNS = _list(
    "Bridge Candle Castle Clock Crown Door Feather Forest Garden Harbour Island Journey Lantern Letter "
    "Mirror Mountain Orchard Promise River Shadow Ship Storm Summer Tower Valley Winter"
)

# trade, kind of work, made it, was ... by, came out
ARTS = (
    ("novelist", "novel", "wrote", "written", "published"),
    ("film director", "film", "directed", "directed", "released"),
    ("painter", "painting", "painted", "painted", "finished"),
    ("composer", "opera", "composed", "composed", "first performed"),
    ("singer", "album", "recorded", "recorded", "released"),
    ("poet", "poem", "wrote", "written", "printed"),
    ("sculptor", "statue", "carved", "carved", "unveiled"),
    ("songwriter", "song", "wrote", "written", "first played"),
)
TRADES = _list(
    "accountant architect astronomer biologist chemist economist engineer geologist historian journalist "
    "lawyer librarian mathematician nurse physician pilot surveyor teacher translator"
)

# kind, what it is called beside its name, name before the town, name after the town, written with "the"
TOWN_ORGANISATIONS = (
    ("university", "place of learning", "University of", "", True),
    ("bank", "lender", "Bank of", "", True),
    ("museum", "public collection", "", "Museum of Art", True),
    ("orchestra", "ensemble", "", "Symphony Orchestra", True),
    ("newspaper", "newspaper", "", "Evening Post", True),
    ("publisher", "publisher", "", "Press", False),
    ("football club", "football club", "", "United", False),
)

POOLS = {
    **dict.fromkeys("PQRST", "people"),
    **dict.fromkeys("ONH", "organisations"),
    **dict.fromkeys("WVX", "works"),
    **dict.fromkeys("CDL", "towns"),
    **dict.fromkeys("GF", "regions"),
    **dict.fromkeys("KJ", "countries"),
}

# fact -> (relation, whether the owner of the fact is the relation's head)
FACTS = {
    "birth": ("born_in", True),
    "year": ("born_in_year", True),
    "home": ("lives_in", True),
    "employer": ("works_for", True),
    "school": ("studied_at", True),
    "spouse": ("married_to", True),
    "office": ("head_office_in", True),
    "founder": ("founded_by", True),
    "founded": ("founded_in_year", True),
    "author": ("author_of", False),
    "made": ("created_in_year", True),
    "country": ("located_in", True),
    "region": ("part_of", True),
    "land": ("part_of", True),
    "capital": ("capital_of", False),
}

RULES: dict[str, tuple[str, ...]] = {
    "sentence": (
        "20* <first> <tail> .",
        "6* <fronted> <tail> .",
        "3* <opening> <first> .",
        "2* <setting> <meeting> .",
        "2* [According to [{Q}|{N}]|In the words of {Q}|As reported by {N}] , <first> .",
        "2* {Q} [wrote|said|explained|told a reporter] [yesterday||last week|] that <first> .",
        "2* <first> [, while|, and|;|, whereas] <second> .",
    ),
    "first": ("6* <person:P>", "5* <organisation:O>", "5* <work:W>", "3* <place>", "2* <meeting>"),
    "fronted": ("3* <person_fronted:P>", "2* <organisation_fronted:O>", "<work_fronted:W>"),
    "second": ("3* <person:R>", "2* <organisation:H>", "2* <work:X>", "{D} lies in {D.country}"),
    "opening": (
        "As [every visitor|every reader|the whole town] knows ,",
        "To the surprise of [{Q}|many|the press] ,",
        "2* [Today|Officially|In fact|For the record|By all accounts] ,",
    ),
    "setting": (
        "After a long [winter|summer|debate|silence] ,",
        "Despite [heavy rain|many doubts|a slow start|the high costs] ,",
        "In the [spring|summer|autumn] of {S.year} , when {S} was born ,",
    ),
    "tail": (
        "18*",
        ", [according to|says] {Q}",
        ", as [{N}|the local press|an old letter|a recent report] [confirms|shows|explains]",
        ", [much to the delight of|which came as news to] [{Q}|the neighbours|the critics]",
        ", a fact that [few people remember|still surprises {Q}|nobody in {L} doubts]",
    ),
    # People: the subject with an aside, then what is said of it; or the fact told from its other end.
    "person": (
        "10* <who:$> <does:$>",
        "2* <who:$> <does:$> and <does:$>",
        "{$.birth} is the [birthplace|native town] of <who:$>",
        "{$.year} is the year in which <who:$> was born",
        "the {$:trade} {$} was born in {$.birth} in {$.year}",
        "{$.employer} [employs|pays] <who:$> [|as {$:a_trade}]",
        "the staff of {$.employer} includes <who:$>",
        "{$.employer} , where {$} [works|has an office] , [sent a team to|opened a branch in] {L}",
        "{$.home} is [the home of|home to] <who:$>",
        "{$.school} [trained|taught|gave a degree to] <who:$>",
        "{$.spouse} and {$} are [married|a married couple]",
        "{$} and {$.spouse} , a married couple , [met {Q} in {L}|bought a boat|support {N}]",
    ),
    "who": (
        "14* {$}",
        "3* the {$:trade} {$}",
        "2* {$} , {$:a_trade} ,",
        "{$} , {$:a_trade} with [|long] experience ,",
        "2* {$} ( born {$.year} )",
        "{$} , born in {$.birth} [|in {$.year}] ,",
        "{$} , who is married to {$.spouse} ,",
        "{$} , the spouse of {$.spouse} ,",
        "{$} , who lives in {$.home} ,",
        "{$} , {$:a_trade} at {$.employer} ,",
        "{$} of {$.employer}",
        "{$} , a graduate of {$.school} ,",
        "{$} , [a friend|an old rival|a cousin|a neighbour] of {Q} ,",
    ),
    "does": (
        "2* was born in {$.birth} [|in {$.year}]",
        "was born in {$.year} [|in {$.birth}]",
        "came into the world in {$.birth}",
        "2* works for {$.employer} [|as {$:a_trade}|and travels to {L} every month]",
        "is [employed by|on the staff of|on the payroll of] {$.employer}",
        "has [worked|been employed] at {$.employer} for [many|ten|twenty] years",
        "works for {$.employer} , {$.employer:a_kind} [based|with headquarters] in {$.employer.office}",
        "[lives|has a house|has settled] in {$.home} [|with two dogs|near the station]",
        "lives in {$.home} , {$.home:a_kind} in {$.home.country}",
        "is a [resident|citizen] of {$.home}",
        "is married to {$.spouse} [|, {$.spouse:a_trade}|, who works for {$.spouse.employer}]",
        "[married|is the spouse of] {$.spouse} , who was born in {$.spouse.birth}",
        "[studied|took a degree|took evening classes] at {$.school}",
        "[graduated from|holds a degree from|is a former student of] {$.school}",
        "visited {L} [|with {Q}|in the spring|for the first time]",
        "turned down an offer from {N}",
        "[gave a talk|spoke|bought a book] at {N}",
        "[has read about|keeps a copy of|never liked|admires] {V}",
        "[often writes to|plays chess with|has never met|owes money to] {Q}",
    ),
    # Nothing but strangers: mentions that stand in no stated relation.
    "meeting": (
        "{P} [met|interviewed|praised|argued with|waited for] {Q} in {L}",
        "{P} , {Q} and {R} [discussed {V}|travelled to {L}|signed a letter to {N}]",
        "[a strike|a fire|an election] in {L} [kept {P} away from {C}|delayed the train to {C}|made the news]",
        "{N} and {O} [signed a contract in {L}|will share a laboratory|ended a long dispute]",
        "the road from {L} to {C} [was closed|passes through {D}|is being repaired by {N}]",
        "a review in the morning paper compared {V} to {W}",
    ),
    # Organisations.
    "organisation": (
        "4* <which:$> <runs:$>",
        "2* <who:$.founder> [founded|set up|established|started] <which:$> [|in {$.founded}]",
        "{$.founder} is the founder of <which:$>",
        "{$.office} is the seat of <which:$>",
        "the head office of <which:$> is in {$.office} [|, {$.office:a_kind} in {$.office.country}]",
        "the founder of {$} , {$.founder} , [was born in {$.founder.birth}|lives in {$.founder.home}|admires {V}]",
        "{$} 's founder , {$.founder} , [is married to {$.founder.spouse}|studied at {$.founder.school}|met {Q}]",
        "{$} 's head office is in {$.office}",
        "the history of {$} [began|starts] in {$.founded} [|, when {$.founder} founded the {$:kind}]",
    ),
    "which": (
        "9* {$}",
        "{$} , {$:a_kind} ,",
        "2* {$} , {$:a_kind} based in {$.office} ,",
        "{$} ( founded {$.founded} )",
        "{$} , a rival of {N} ,",
        "{$} , which {$.founder} founded [|in {$.founded}] ,",
    ),
    "runs": (
        "2* was [founded|established|started] [|in {$.founded}] by <who:$.founder>",
        "has [existed|been active] since {$.founded}",
        "began as an idea of the founder , {$.founder}",
        "[has headquarters|is based|is headquartered] in {$.office} [|, {$.office:a_kind} in {$.office.country}]",
        "[opened a branch|rented a hall|lost a lawsuit] in {L}",
        "[sued|bought a share of|works closely with|competes with] {N}",
        "[thanked|honoured|invited] {Q} [|after a concert|at a ceremony in {L}]",
    ),
    # Works.
    "work": (
        "3* <what:$> was {$:done} [|in {$.made}] by <who:$.author>",
        "3* <who:$.author> {$:did} <what:$> [|in {$.made}]",
        "<what:$> was {$:out} in {$.made}",
        "{$} , {$:a_kind} by {$.author} , <stirs>",
        "2* {$} , {$:done} by {$.author} [|in {$.made}] , <stirs>",
        "<who:$.author> , who {$:did} {$} , <does:$.author>",
        "{$.author} 's {$:kind} {$} <stirs>",
        "the {$:kind} {$} is [the best known|an early|a late] work of <who:$.author>",
        "the [author|creator] of {$} , {$.author} , <does:$.author>",
        "{$} <stirs>",
    ),
    "what": ("5* {$}", "2* the {$:kind} {$}", "{$} ( {$.made} )", "{$} , {$:a_kind} ,"),
    "stirs": (
        "[inspired|puzzled|moved] {Q}",
        "won [a prize|praise|many friends] in {L}",
        "is [often compared with {V}|mentioned in a letter to {N}|a favourite of {Q}]",
        "was [reviewed|discussed] by {Q} [|in {L}]",
        "is [well known|almost forgotten] in {L}",
    ),
    # The same with something else than the subject in front: good at the start of a sentence only.
    "person_fronted": (
        "in {$.year} , <who:$> was born in {$.birth}",
        "born in {$.birth} in {$.year} , {$} <does:$>",
        "born in {$.birth} , {$} <does:$>",
        "married to {$.spouse} , {$} <does:$>",
        "a graduate of {$.school} , {$} <does:$>",
        "the [spouse|partner] of {$.spouse} , {$} , <does:$>",
        "in {$.home} , where {$} lives , [the streets are quiet|rents are low|{Q} owns a shop]",
    ),
    "organisation_fronted": (
        "in {$.founded} , {$.founder} [founded|established] <which:$>",
        "in {$.office} , the head office of {$} [employs hundreds of people|was repainted|overlooks the river]",
        "founded by {$.founder} [|in {$.founded}] , {$} <runs:$>",
        "based in {$.office} , {$} <runs:$>",
    ),
    "work_fronted": (
        "in {$.made} , <who:$.author> {$:did} <what:$>",
        "{$:a_kind} of {$.made} , {$} was {$:done} by {$.author}",
    ),
    # Places.
    "place": (
        "2* {C} [lies|is situated|can be found] in {C.country}",
        "{C} is {C:a_kind} in {C.country} [|, not far from {L}]",
        "{C} lies in the {C.region} region of {C.region.land=C.country}",
        "{C} , {C:a_kind} in the {C.region} region , [has a port|welcomed {Q}|hosts {N} every year]",
        "{C} belongs to the region of {C.region}",
        "the region of {C.region} [includes|contains] {C} , {C:a_kind} [with a market|on the coast|full of students]",
        "{C.country} has many old towns , [such as|including] {C}",
        "{K.capital} is the capital of {K} [|and the largest city in the country]",
        "the capital of {K} is {K.capital} [|, although {L} attracts more visitors]",
        "{K} , with the capital {K.capital} , [shares a border with {J}|exports timber|signed a treaty with {J}]",
        "{G} is a [rural|wealthy|remote|mountainous] region of {G.land}",
        "the region of {G} , part of {G.land} , [grows apples|attracts many painters|borders on {F}]",
        "in {G.land} , the region of {G} is known for [cheese|glass|old mines|mild winters]",
        "travellers from {L} reach {C} , {C:a_kind} in {C.country} , [by train|by ship|after two days]",
    ),
}
