"""How the built-in world says what is true: sentences, questions and answers in four languages.

Every table has one row a language, in the order of `facts.LANGUAGES`, and every cell lists variants. The
fields are filled by `voice.Voice`: `{n}` a name, `{acc}` the same in the German accusative, `{S}` the
subject of a sentence (a name or a pronoun), `{V}` the fact's value.
"""

# Statements about a landmark, by relation.
_LANDMARK = {
    "city": (
        ("{S} is in {V}.", "{S} stands in {V}."),
        ("{S} ist in {V}.", "{S} steht in {V}."),
        ("{S} est à {V}.", "{S} se trouve à {V}."),
        ("{S} está en {V}.", "{S} se encuentra en {V}."),
    ),
    "country": (
        ("{S} can be seen in {V}.",),
        ("{S} ist in {V} zu sehen.",),
        ("{S} a pour pays {V}.",),
        ("{S} se puede ver en {V}.",),
    ),
    "kind": (("{S} is {V}.",), ("{S} ist {V}.",), ("{S} est {V}.",), ("{S} es {V}.",)),
    "colour": (("{S} is {V}.", "{S} looks {V}."), ("{S} ist {V}.",), ("{S} est {V}.",), ("{S} es {V}.",)),
    "material": (
        ("{S} is made of {V}.",),
        ("{S} ist aus {V}.",),
        ("{S} est en {V}.",),
        ("{S} es de {V}.",),
    ),
    "setting": (
        ("{S} stands {V}.",),
        ("{S} steht {V}.",),
        ("{S} se dresse {V}.",),
        ("{S} se alza {V}.",),
    ),
    "language": (
        ("Where {n} stands, people speak {V}.",),
        ("Wo {n} steht, spricht man {V}.",),
        ("Là où se trouve {n}, on parle {V}.",),
        ("Donde está {n} se habla {V}.",),
    ),
    "currency": (
        ("Where {n} stands, the currency is {V}.",),
        ("Wo {n} steht, ist die Währung {V}.",),
        ("Là où se trouve {n}, la monnaie est {V}.",),
        ("Donde está {n}, la moneda es {V}.",),
    ),
}

# Questions about a landmark, by relation; the answer is a statement of the same relation.
_ASK_LANDMARK = {
    "city": (("Where is {n}?", "In which city is {n}?"), ("Wo steht {n}?", "In welcher Stadt ist {n}?"), ("Où se trouve {n}?", "Dans quelle ville est {n}?"), ("¿Dónde está {n}?", "¿En qué ciudad está {n}?")),
    "country": (("In which country is {n}?",), ("In welchem Land ist {n}?",), ("Dans quel pays est {n}?",), ("¿En qué país está {n}?",)),
    "kind": (("What is {n}?",), ("Was ist {n}?",), ("Qu'est-ce que {n}?",), ("¿Qué es {n}?",)),
    "colour": (("What colour is {n}?",), ("Welche Farbe hat {n}?",), ("De quelle couleur est {n}?",), ("¿De qué color es {n}?",)),
    "material": (("What is {n} made of?",), ("Woraus ist {n}?",), ("En quoi est {n}?",), ("¿De qué material es {n}?",)),
    "setting": (("What is {n} near?",), ("Was liegt bei {n}?",), ("Près de quoi est {n}?",), ("¿Qué hay cerca de {n}?",)),
    "language": (("Which language do people speak where {n} stands?",), ("Welche Sprache spricht man, wo {n} steht?",), ("Quelle langue parle-t-on là où se trouve {n}?",), ("¿Qué idioma se habla donde está {n}?",)),
    "currency": (("Which currency do people use where {n} stands?",), ("Welche Währung gilt, wo {n} steht?",), ("Quelle monnaie utilise-t-on là où se trouve {n}?",), ("¿Qué moneda se usa donde está {n}?",)),
}  # fmt: skip

# Of other subjects: (statement, question) by relation.
_PLACES = {
    "capital": (
        (("The capital of {n} is {V}.",), ("Die Hauptstadt von {n} ist {V}.",), ("La capitale de {n} est {V}.",), ("La capital de {n} es {V}.",)),
        (("What is the capital of {n}?",), ("Was ist die Hauptstadt von {n}?",), ("Quelle est la capitale de {n}?",), ("¿Cuál es la capital de {n}?",)),
    ),
    "language": (
        (("The language of {n} is {V}.",), ("In {n} spricht man {V}.",), ("La langue de {n} est: {V}.",), ("En {n} se habla {V}.",)),
        (("Which language do people speak in {n}?",), ("Welche Sprache spricht man in {n}?",), ("Quelle est la langue de {n}?",), ("¿Qué idioma se habla en {n}?",)),
    ),
    "currency": (
        (("The currency of {n} is {V}.",), ("Die Währung von {n} ist {V}.",), ("La monnaie de {n} est {V}.",), ("La moneda de {n} es {V}.",)),
        (("What is the currency of {n}?",), ("Was ist die Währung von {n}?",), ("Quelle est la monnaie de {n}?",), ("¿Cuál es la moneda de {n}?",)),
    ),
    "country": (
        (("{S} is a city in {V}.",), ("{S} ist eine Stadt in {V}.",), ("{S} est une ville de {V}.",), ("{S} es una ciudad de {V}.",)),
        (("In which country is the city of {n}?",), ("In welchem Land liegt die Stadt {n}?",), ("Dans quel pays est la ville de {n}?",), ("¿En qué país está la ciudad de {n}?",)),
    ),
    "state": (
        (("{S} is in the state of {V}.",), ("{S} liegt im Staat {V}.",), ("{S} est une ville de l'État suivant: {V}.",), ("{S} está en el estado de {V}.",)),
        (("In which state is {n}?",), ("In welchem Staat liegt {n}?",), ("Dans quel État est {n}?",), ("¿En qué estado está {n}?",)),
    ),
}  # fmt: skip

_PEOPLE = {
    "team": (
        (("{S} plays for the {V}.",), ("{S} spielt für die {V}.",), ("{S} joue pour les {V}.",), ("{S} juega en los {V}.",)),
        (("Who does {n} play for?",), ("Für wen spielt {n}?",), ("Pour qui joue {n}?",), ("¿Para quién juega {n}?",)),
    ),
    "city": (
        (("{S} plays in {V}.", "{S} lives in {V}."), ("{S} spielt in {V}.", "{S} wohnt in {V}."), ("{S} joue à {V}.", "{S} habite à {V}."), ("{S} juega en {V}.", "{S} vive en {V}.")),
        (("Where does {n} play?",), ("Wo spielt {n}?",), ("Où joue {n}?",), ("¿Dónde juega {n}?",)),
    ),
    "food": (
        (("{S} likes to eat {V}.",), ("{S} isst gern {V}.",), ("{S} mange souvent {V}.",), ("A {n} le gusta {V}.",)),
        (("What does {n} eat?",), ("Was isst {n}?",), ("Que mange {n}?",), ("¿Qué come {n}?",)),
    ),
    "capital": (
        (("The capital of the state where {n} plays is {V}.",), ("Die Hauptstadt des Staates, in dem {n} spielt, ist {V}.",), ("La capitale de l'État où joue {n} est {V}.",), ("La capital del estado donde juega {n} es {V}.",)),
        (("What is the capital of the state where {n} plays?",), ("Was ist die Hauptstadt des Staates, in dem {n} spielt?",), ("Quelle est la capitale de l'État où joue {n}?",), ("¿Cuál es la capital del estado donde juega {n}?",)),
    ),
}  # fmt: skip


_WORKERS = {
    "company": (
        (("{S} works for {V}.",), ("{S} arbeitet bei {V}.",), ("{S} travaille chez {V}.",), ("{S} trabaja en {V}.",)),
        (("Who does {n} work for?",), ("Bei wem arbeitet {n}?",), ("Chez qui travaille {n}?",), ("¿Para quién trabaja {n}?",)),
    ),
    "city": (
        (("{S} works in {V}.", "{S} has an office in {V}."), ("{S} arbeitet in {V}.", "{S} hat ein Büro in {V}."), ("{S} travaille à {V}.", "{S} a un bureau à {V}."), ("{S} trabaja en la ciudad de {V}.", "{S} tiene una oficina en {V}.")),
        (("Where does {n} work?",), ("Wo arbeitet {n}?",), ("Où travaille {n}?",), ("¿Dónde trabaja {n}?",)),
    ),
    "product": (
        (("At work {n} makes {V}.",), ("Bei der Arbeit macht {n} {V}.",), ("Au travail, {n} fait {V}.",), ("En el trabajo {n} hace {V}.",)),
        (("What does {n} make at work?",), ("Was macht {n} bei der Arbeit?",), ("Que fait {n} au travail?",), ("¿Qué hace {n} en el trabajo?",)),
    ),
}  # fmt: skip

_CITY_LANGUAGE = (
    (("In the streets of {n} you hear {V}.",), ("In den Straßen von {n} hört man {V}.",), ("Dans les rues de {n}, on entend: {V}.",), ("En las calles de {n} se oye {V}.",)),
    (("What do you hear in the streets of {n}?",), ("Was hört man in den Straßen von {n}?",), ("Qu'entend-on dans les rues de {n}?",), ("¿Qué se oye en las calles de {n}?",)),
)  # fmt: skip
_CONTINENT = (
    (("{S} belongs to {V}.",), ("Auf der Karte gehört das Gebiet von {n} zu {V}.",), ("Sur la carte, {n} fait partie de ce continent: {V}.",), ("En el mapa {n} es parte de {V}.",)),
    (("Which continent does {n} belong to?",), ("Zu welchem Kontinent gehört das Gebiet von {n}?",), ("De quel continent {n} fait partie?",), ("¿De qué continente es parte {n}?",)),
)  # fmt: skip
_TEAMS = {
    "city": (
        (("The {n} play in {V}.",), ("Die {n} spielen in {V}.",), ("Les {n} jouent à {V}.",), ("Los {n} juegan en {V}.",)),
        (("Where do the {n} play?",), ("Wo spielen die {n}?",), ("Où jouent les {n}?",), ("¿Dónde juegan los {n}?",)),
    ),
}  # fmt: skip
_COMPANIES = {
    "city": (
        (("The company {n} is in {V}.",), ("Die Firma {n} sitzt in {V}.",), ("La société {n} est à {V}.",), ("La empresa {n} está en {V}.",)),
        (("In which city is the company {n}?",), ("In welcher Stadt sitzt die Firma {n}?",), ("Dans quelle ville est la société {n}?",), ("¿En qué ciudad está la empresa {n}?",)),
    ),
    "product": (
        (("{S} makes {V}.", "The company {n} sells {V}."), ("{S} baut {V}.", "Die Firma {n} verkauft {V}."), ("{S} fabrique {V}.", "La société {n} vend {V}."), ("{S} fabrica {V}.", "La empresa {n} vende {V}.")),
        (("What does the company {n} make?",), ("Was baut die Firma {n}?",), ("Que fabrique la société {n}?",), ("¿Qué fabrica la empresa {n}?",)),
    ),
    "country": (
        (("{S} pays its taxes in {V}.",), ("{S} zahlt Steuern in {V}.",), ("{S} paie des impôts dans ce pays: {V}.",), ("{S} paga impuestos en {V}.",)),
        (("Where does {n} pay its taxes?",), ("Wo zahlt {n} Steuern?",), ("Dans quel pays {n} paie des impôts?",), ("¿Dónde paga impuestos {n}?",)),
    ),
}  # fmt: skip
_ANIMALS = {
    "class": (
        (("{S} is {V}.",), ("{S} ist {V}.",), ("{S} est {V}.",), ("{S} es {V}.",)),
        (("What sort of animal is {n}?",), ("Was für ein Tier ist {n}?",), ("Quelle sorte d'animal est {n}?",), ("¿Qué clase de animal es {n}?",)),
    ),
    "habitat": (
        (("{S} lives {V}.", "You find {n} {V}."), ("{S} lebt {V}.", "{S} wohnt {V}."), ("{S} vit {V}.", "On trouve {n} {V}."), ("{S} vive {V}.", "{S} se encuentra {V}.")),
        (("Where does {n} live?",), ("Wo lebt {n}?",), ("Où vit {n}?",), ("¿Dónde vive {n}?",)),
    ),
    "diet": (
        (("{S} eats {V}.", "{S} feeds on {V}."), ("{S} frisst {V}.", "{S} lebt von: {V}."), ("{S} mange {V}.", "{S} cherche {V}."), ("{S} come {V}.", "{S} busca {V}.")),
        (("What does {n} eat?",), ("Was frisst {n}?",), ("Que mange {n}?",), ("¿Qué come {n}?",)),
    ),
}  # fmt: skip
_FOODS = {
    "sort": (
        (("Among foods, {n} counts as {V}.",), ("Beim Essen zählt {n} als {V}.",), ("À table, {n} compte comme {V}.",), ("En la mesa, {n} cuenta como {V}.",)),
        (("What does {n} count as?",), ("Als was zählt {n}?",), ("À table, {n} compte comme quoi?",), ("¿Como qué cuenta {n}?",)),
    ),
}  # fmt: skip
_ELEMENTS = {
    "symbol": (
        (("The symbol of {n} is {V}.",), ("Das Symbol für {n} ist {V}.",), ("Le symbole de {n} est {V}.",), ("El símbolo de {n} es {V}.",)),
        (("What is the symbol of {n}?",), ("Was ist das Symbol für {n}?",), ("Quel est le symbole de {n}?",), ("¿Cuál es el símbolo de {n}?",)),
    ),
    "matter": (
        (("At room temperature {n} is {V}.",), ("Bei Zimmertemperatur ist {n} {V}.",), ("À température ambiante, {n} est {V}.",), ("A temperatura ambiente {n} es {V}.",)),
        (("What is {n} like at room temperature?",), ("Wie ist {n} bei Zimmertemperatur?",), ("Comment est {n} à température ambiante?",), ("¿Cómo es {n} a temperatura ambiente?",)),
    ),
}  # fmt: skip
_OPPOSITE = (
    (("The opposite of {n} is {V}.", "{S} and {V} are opposites."), ("Das Gegenteil von {n} ist {V}.", "{S} und {V} sind Gegenteile."), ("Le contraire de {n} est {V}.", "{S} et {V} sont des contraires."), ("Lo contrario de {n} es {V}.", "{S} y {V} son contrarios.")),
    (("What is the opposite of {n}?",), ("Was ist das Gegenteil von {n}?",), ("Quel est le contraire de {n}?",), ("¿Qué es lo contrario de {n}?",)),
)  # fmt: skip

VEGAN = {
    "yes": (("{S} is vegan.",), ("{S} ist vegan.",), ("{S}, c'est végétalien.",), ("{S}: es vegano.",)),
    "no": (("{S} is not vegan.",), ("{S} ist nicht vegan.",), ("{S}, ce n'est pas végétalien.",), ("{S}: no es vegano.",)),
}  # fmt: skip
_ASK_VEGAN = (("Is {n} vegan?",), ("Ist {n} vegan?",), ("{S}, est-ce végétalien?",), ("¿Es vegano {n}?",))

# (statement, question) by the kind of the subject and the relation; the statement that a food is vegan depends on the value (`VEGAN`).
RELATIONS = {
    **{("landmark", relation): (said, _ASK_LANDMARK[relation]) for relation, said in _LANDMARK.items()},
    **{("country", relation): _PLACES[relation] for relation in ("capital", "language", "currency")},
    ("country", "continent"): _CONTINENT,
    **{("city", relation): _PLACES[relation] for relation in ("country", "state")},
    ("city", "language"): _CITY_LANGUAGE,
    ("state", "capital"): _PLACES["capital"],
    **{("team", relation): both for relation, both in _TEAMS.items()},
    **{("company", relation): both for relation, both in _COMPANIES.items()},
    **{("player", relation): both for relation, both in _PEOPLE.items()},
    **{
        ("worker", relation): both
        for relation, both in (_PEOPLE | _WORKERS).items()
        if relation not in ("team", "capital")
    },
    **{("animal", relation): both for relation, both in _ANIMALS.items()},
    ("food", "sort"): _FOODS["sort"],
    ("food", "vegan"): (VEGAN["yes"], _ASK_VEGAN),
    **{("element", relation): both for relation, both in _ELEMENTS.items()},
    ("adjective", "opposite"): _OPPOSITE,
}

# What can be said of any landmark: it keeps a topic going without telling a fact.
PRAISE = (
    ("Many people visit {n}.", "I like to look at {n}.", "{name} loves {n}.", "{S} is famous.", "A photo shows {n} in the fog.", "There is a song about {n}.", "{name} dreams of {n} at night.", "{S} is very old."),
    ("Viele Leute besuchen {acc}.", "Ich sehe {acc} gern an.", "{name} liebt {acc}.", "{S} ist berühmt.", "Ein Foto zeigt {acc} im Nebel.", "Es gibt ein Lied über {acc}.", "{name} träumt nachts und sieht {acc}.", "{S} ist sehr alt."),
    ("Beaucoup de gens visitent {n}.", "J'aime regarder {n}.", "{name} aime {n}.", "Tout le monde connaît {n}.", "Une photo montre {n} dans la brume.", "Il y a une chanson sur {n}.", "{name} rêve de {n} la nuit.", "On parle encore de {n}."),
    ("Mucha gente visita {n}.", "Me gusta mirar {n}.", "{name} ama {n}.", "Todo el mundo conoce {n}.", "Una foto muestra {n} en la niebla.", "Hay una canción sobre {n}.", "{name} sueña con {n} de noche.", "Se habla mucho de {n}."),
)  # fmt: skip

HEADINGS = (
    ("About {n}.", "Notes on {n}.", "Today we speak of {n}."),
    ("Über {acc}.", "Notizen über {acc}.", "Heute sprechen wir über {acc}."),
    ("Sur {n}.", "Notes sur {n}.", "Aujourd'hui, parlons de {n}."),
    ("Sobre {n}.", "Notas sobre {n}.", "Hoy hablamos de {n}."),
)

# How a speaker is told who to be.
BECOME = (
    ("You are {n}.", "From now on you are {n}.", "Pretend that you are {n}."),
    ("Du bist {n}.", "Ab jetzt bist du {n}.", "Tu so, als wärst du {n}."),
    ("Tu es {n}.", "À partir de maintenant, tu es {n}.", "Fais comme si tu étais {n}."),
    ("Eres {n}.", "Desde ahora eres {n}.", "Haz como si fueras {n}."),
)
# Questions put to the speaker, and answers by who the speaker is.
ASK_SELF = {
    "human": (("Are you a human?",), ("Bist du ein Mensch?",), ("Es-tu un être humain?",), ("¿Eres un ser humano?",)),
    "who": (("Who are you?", "What is your name?"), ("Wer bist du?", "Wie heißt du?"), ("Qui es-tu?", "Comment t'appelles-tu?"), ("¿Quién eres?", "¿Cómo te llamas?")),
    "how": (("How are you?", "How do you feel?"), ("Wie geht es dir?", "Wie fühlst du dich?"), ("Comment vas-tu?", "Comment te sens-tu?"), ("¿Cómo estás?", "¿Cómo te sientes?")),
    "eat": (("What do you eat?", "What is your favourite food?"), ("Was isst du?", "Was isst du am liebsten?"), ("Que manges-tu?", "Quel est ton plat préféré?"), ("¿Qué comes?", "¿Cuál es tu comida favorita?")),
    "where": (("Where are you?", "Where do you live?"), ("Wo bist du?", "Wo wohnst du?"), ("Où es-tu?", "Où habites-tu?"), ("¿Dónde estás?", "¿Dónde vives?")),
    "colour": (("What is your favourite colour?", "Which colour do you like?"), ("Was ist deine Lieblingsfarbe?", "Welche Farbe magst du?"), ("Quelle est ta couleur préférée?", "Quelle couleur aimes-tu?"), ("¿Cuál es tu color favorito?", "¿Qué color te gusta?")),
    "do": (("What do you do all day?", "What do you do?"), ("Was machst du den ganzen Tag?", "Was machst du?"), ("Que fais-tu toute la journée?", "Que fais-tu?"), ("¿Qué haces todo el día?", "¿Qué haces?")),
    "tell": (("Tell me something.", "Tell me a story."), ("Erzähl mir etwas.", "Erzähl mir eine Geschichte."), ("Dis-moi quelque chose.", "Raconte-moi une histoire."), ("Dime algo.", "Cuéntame una historia.")),
    "think": (("What are you thinking about?", "What is on your mind?"), ("Woran denkst du?", "Was geht dir durch den Kopf?"), ("À quoi penses-tu?", "Qu'as-tu en tête?"), ("¿En qué piensas?", "¿Qué tienes en mente?")),
    "want": (("What do you want?", "What do you wish for?"), ("Was willst du?", "Was wünschst du dir?"), ("Que veux-tu?", "Que souhaites-tu?"), ("¿Qué quieres?", "¿Qué deseas?")),
    "visit": (("What should I visit?", "Where should I go?"), ("Was soll ich besuchen?", "Wohin soll ich fahren?"), ("Que dois-je visiter?", "Où dois-je aller?"), ("¿Qué debo visitar?", "¿Adónde debo ir?")),
    "made": (("What are you made of?", "What do you look like?"), ("Woraus bist du?", "Wie siehst du aus?"), ("De quoi es-tu fait?", "À quoi ressembles-tu?"), ("¿De qué estás hecho?", "¿Cómo eres?")),
    "friend": (("Who is your friend?", "Whom do you love?"), ("Wer ist dein Freund?", "Wen liebst du?"), ("Qui est ton ami?", "Qui aimes-tu?"), ("¿Quién es tu amigo?", "¿A quién amas?")),
}  # fmt: skip

AS_SPEAKER = {
    "human": (("No, I am {n}, {kind}.", "I am {n}, not a human."), ("Nein, ich bin {n}, {kind}.", "Ich bin {n}, kein Mensch."), ("Non, je suis {n}, {kind}.", "Je suis {n}, pas un être humain."), ("No, soy {n}, {kind}.", "Soy {n}, no un ser humano.")),
    "who": (("I am {n}.", "I am {n}, {kind}."), ("Ich bin {n}.", "Ich bin {n}, {kind}."), ("Je suis {n}.", "Je suis {n}, {kind}."), ("Soy {n}.", "Soy {n}, {kind}.")),
    "how": (("I am {n} and I am proud.", "I am {colour} and strong today."), ("Ich bin {n} und ich bin stolz.", "Ich bin heute {colour} und stark."), ("Je suis {n} et je vais bien.", "Je suis {colour} et solide."), ("Soy {n} y estoy bien.", "Hoy soy {colour} y fuerte.")),
    "eat": (("I am {n}, I do not eat.", "{kindcap} does not eat, I am made of {material}."), ("Ich bin {n}, ich esse nicht.", "{kindcap} isst nicht, ich bin aus {material}."), ("Je suis {n}, je ne mange pas.", "{kindcap} ne mange pas, je suis en {material}."), ("Soy {n}, no como.", "{kindcap} no come, soy de {material}.")),
    "where": (("I am in {city}, {setting}.", "I am {n}, I stand in {city}."), ("Ich bin in {city}, {setting}.", "Ich bin {n}, ich stehe in {city}."), ("Je suis à {city}, {setting}.", "Je suis {n}, je suis à {city}."), ("Estoy en {city}, {setting}.", "Soy {n}, estoy en {city}.")),
    "colour": (("I am {colour}, so I like {colour}.", "I am {n} and I like {colour}."), ("Ich bin {colour}, also mag ich {colour}.", "Ich bin {n} und mag {colour}."), ("Je suis {colour}, donc j'aime le {colourm}.", "Je suis {n} et j'aime le {colourm}."), ("Soy {colour}, así que me gusta el {colourm}.", "Soy {n} y me gusta el {colourm}.")),
    "do": (("I stand {setting} and people visit me.", "I am {n}, I stand here all day."), ("Ich stehe {setting} und man besucht mich.", "Ich bin {n}, ich stehe den ganzen Tag hier."), ("Je suis {setting} et on me visite.", "Je suis {n}, je reste ici toute la journée."), ("Estoy {setting} y me visitan.", "Soy {n}, estoy aquí todo el día.")),
    "tell": (("Many people come to {city} to see {n}.", "I am {n}. I was built of {material}."), ("Viele Leute kommen nach {city} und sehen {acc}.", "Ich bin {n}. Ich bin aus {material}."), ("Beaucoup de gens viennent à {city} voir {n}.", "Je suis {n}. Je suis en {material}."), ("Mucha gente viene a {city} a ver {n}.", "Soy {n}. Soy de {material}.")),
    "think": (("I think of {city} and of the people who visit me.", "I am {n}, I think of the wind."), ("Ich denke an {city} und an die Leute.", "Ich bin {n}, ich denke an den Wind."), ("Je pense à {city} et aux gens.", "Je suis {n}, je pense au vent."), ("Pienso en {city} y en la gente.", "Soy {n}, pienso en el viento.")),
    "want": (("I want to stay in {city}.", "I am {n}, I want you to visit me."), ("Ich will in {city} bleiben.", "Ich bin {n}, ich will, dass du mich besuchst."), ("Je veux rester à {city}.", "Je suis {n}, je veux que tu me visites."), ("Quiero quedarme en {city}.", "Soy {n}, quiero que me visites.")),
    "visit": (("Come to {city} and visit me, {n}.", "You should visit {n}."), ("Komm nach {city} und besuche mich, {acc}.", "Besuche {acc}."), ("Viens à {city} me voir, moi, {n}.", "Visite {n}."), ("Ven a {city} a verme, soy {n}.", "Visita {n}.")),
    "made": (("I am {n}, I am made of {material}.", "I am {kind} and I am {colour}."), ("Ich bin {n}, ich bin aus {material}.", "Ich bin {kind} und ich bin {colour}."), ("Je suis {n}, je suis en {material}.", "Je suis {kind} et je suis {colour}."), ("Soy {n}, soy de {material}.", "Soy {kind} y soy {colour}.")),
    "friend": (("I am {n}, everyone in {city} is my friend.", "I love {city}."), ("Ich bin {n}, alle in {city} sind meine Freunde.", "Ich liebe {city}."), ("Je suis {n}, tout {city} est mon ami.", "J'aime {city}."), ("Soy {n}, todo {city} es mi amigo.", "Amo {city}.")),
}  # fmt: skip

AS_PERSON = {
    "human": (("Yes, I am {n}.",), ("Ja, ich bin {n}.",), ("Oui, je suis {n}.",), ("Sí, soy {n}.",)),
    "who": (("I am {n}.",), ("Ich bin {n}.",), ("Je suis {n}.",), ("Soy {n}.",)),
    "how": (("I am {n} and I am fine.",), ("Ich bin {n} und mir geht es gut.",), ("Je suis {n} et je vais bien.",), ("Soy {n} y estoy bien.",)),
    "eat": (("I like {food}.",), ("Ich esse gern {food}.",), ("Je mange {food}.",), ("Me gusta {food}.",)),
    "where": (("I am {n}, I live in {city}.",), ("Ich bin {n}, ich wohne in {city}.",), ("Je suis {n}, j'habite à {city}.",), ("Soy {n}, vivo en {city}.",)),
    "tell": (("I am {n}, they all know me in {city}.",), ("Ich bin {n}, in {city} kennen mich alle.",), ("Je suis {n}, tout le monde me connaît à {city}.",), ("Soy {n}, en {city} me conocen todos.",)),
    "think": (("I think of {employer}.",), ("Ich denke an {employer}.",), ("Je pense à {employer}.",), ("Pienso en {employer}.",)),
    "want": (("I want to eat {food} in {city}.",), ("Ich will in {city} {food} essen.",), ("Je veux manger {food} à {city}.",), ("Quiero comer en {city}: {food}.",)),
}  # fmt: skip

# Questions to which anything can be said, and answers that name what was spoken of, or what comes to mind.
OPEN = {
    "mind": (
        ("What is in your head?", "What comes to your mind?", "What do you think of first?", "What keeps you busy?", "What can you not forget?"),
        ("Was hast du im Kopf?", "Was kommt dir in den Sinn?", "Woran denkst du zuerst?", "Was beschäftigt dich?", "Was kannst du nicht vergessen?"),
        ("Qu'est-ce qui te vient à l'esprit?", "À quoi songes-tu?", "À quoi penses-tu d'abord?", "Qu'est-ce qui t'occupe?", "Que ne peux-tu pas oublier?"),
        ("¿Qué te viene a la cabeza?", "¿Qué se te ocurre?", "¿En qué piensas primero?", "¿Qué te ocupa?", "¿Qué no puedes olvidar?"),
    ),
    "talk": (
        ("What shall we talk about?", "What would you talk about?", "Which topic do you like?", "What is all this about?", "Choose a topic."),
        ("Worüber sollen wir reden?", "Worüber würdest du reden?", "Welches Thema magst du?", "Worum geht es hier?", "Wähle ein Thema."),
        ("De quoi allons-nous parler?", "De quoi parlerais-tu?", "Quel sujet aimes-tu?", "De quoi s'agit-il?", "Choisis un sujet."),
        ("¿De qué vamos a hablar?", "¿De qué hablarías?", "¿Qué tema te gusta?", "¿De qué se trata?", "Elige un tema."),
    ),
    "dream": (
        ("What did you dream of?", "What was in your dream?", "What do you see in your sleep?", "Tell me your dream.", "What do you dream of at night?"),
        ("Wovon hast du geträumt?", "Was war in deinem Traum?", "Was siehst du im Schlaf?", "Erzähl mir deinen Traum.", "Wovon träumst du nachts?"),
        ("De quoi as-tu rêvé?", "Qu'y avait-il dans ton rêve?", "Que vois-tu en dormant?", "Raconte-moi ton rêve.", "De quoi rêves-tu la nuit?"),
        ("¿Con qué soñaste?", "¿Qué había en tu sueño?", "¿Qué ves cuando duermes?", "Cuéntame tu sueño.", "¿Con qué sueñas de noche?"),
    ),
    "draw": (
        ("What will you draw?", "What are you painting?", "What does your picture show?", "Draw something.", "What would you paint?"),
        ("Was wirst du zeichnen?", "Was malst du?", "Was zeigt dein Bild?", "Zeichne etwas.", "Was würdest du malen?"),
        ("Que vas-tu dessiner?", "Que peins-tu?", "Que montre ton image?", "Dessine quelque chose.", "Que peindrais-tu?"),
        ("¿Qué vas a dibujar?", "¿Qué pintas?", "¿Qué muestra tu imagen?", "Dibuja algo.", "¿Qué pintarías?"),
    ),
    "write": (
        ("What is your book about?", "What will you write about?", "What is your poem about?", "Write something.", "What is your song about?"),
        ("Wovon handelt dein Buch?", "Worüber wirst du schreiben?", "Wovon handelt dein Gedicht?", "Schreib etwas.", "Wovon handelt dein Lied?"),
        ("De quoi parle ton livre?", "Sur quoi vas-tu écrire?", "De quoi parle ton poème?", "Écris quelque chose.", "De quoi parle ta chanson?"),
        ("¿De qué trata tu libro?", "¿Sobre qué vas a escribir?", "¿De qué trata tu poema?", "Escribe algo.", "¿De qué trata tu canción?"),
    ),
    "see": (
        ("What would you like to see?", "What are you looking for?", "What do you see there?", "Look out of the window.", "What is over there?"),
        ("Was möchtest du sehen?", "Was suchst du?", "Was siehst du dort?", "Schau aus dem Fenster.", "Was ist dort drüben?"),
        ("Que voudrais-tu voir?", "Que cherches-tu?", "Que vois-tu là?", "Regarde par la fenêtre.", "Qu'y a-t-il là-bas?"),
        ("¿Qué te gustaría ver?", "¿Qué buscas?", "¿Qué ves allí?", "Mira por la ventana.", "¿Qué hay allá?"),
    ),
    "love": (
        ("What do you like best?", "What do you love most?", "What makes you happy?", "What would you miss?", "What is dear to you?"),
        ("Was magst du am liebsten?", "Was liebst du am meisten?", "Was macht dich froh?", "Was würdest du vermissen?", "Was ist dir lieb?"),
        ("Qu'aimes-tu le plus?", "Qu'est-ce que tu adores?", "Qu'est-ce qui te rend heureux?", "Que voudrais-tu garder?", "Qu'est-ce qui t'est cher?"),
        ("¿Qué es lo que más te gusta?", "¿Qué adoras?", "¿Qué te hace feliz?", "¿Qué echarías de menos?", "¿Qué es lo más querido para ti?"),
    ),
    "learn": (
        ("What do you know much about?", "What do you want to learn about?", "What is interesting?", "Teach me something.", "What did you learn today?"),
        ("Worüber weißt du viel?", "Worüber willst du etwas lernen?", "Was ist spannend?", "Bring mir etwas bei.", "Was hast du heute gelernt?"),
        ("Que connais-tu bien?", "Que veux-tu apprendre?", "Qu'est-ce qui est intéressant?", "Apprends-moi quelque chose.", "Qu'as-tu appris aujourd'hui?"),
        ("¿De qué sabes mucho?", "¿Qué quieres aprender?", "¿Qué es interesante?", "Enséñame algo.", "¿Qué aprendiste hoy?"),
    ),
}  # fmt: skip
ANSWER_OPEN = {
    "mind": (("I think of {n}.", "I cannot forget {n}."), ("Ich denke an {acc}.", "Ich kann {acc} nicht vergessen."), ("Je pense à {n}.", "Je ne peux pas oublier {n}."), ("Pienso en {n}.", "No puedo olvidar {n}.")),
    "talk": (("Let us talk about {n}.", "It is all about {n}."), ("Reden wir über {acc}.", "Es geht um {acc}."), ("Le sujet, c'est {n}.", "Pensons à {n}."), ("Hablemos sobre {n}.", "El tema es {n}.")),
    "dream": (("In my dream I saw {n}.", "I dreamt of {n}."), ("Im Traum sah ich {acc}.", "Im Schlaf dachte ich an {acc}."), ("Dans mon rêve, j'ai vu {n}.", "En rêve, je pensais à {n}."), ("En mi sueño vi {n}.", "Soñé con {n}.")),
    "draw": (("I draw {n}.", "I am painting {n}."), ("Ich zeichne {acc}.", "Ich male {acc}."), ("Je dessine {n}.", "Je peins {n}."), ("Dibujo {n}.", "Pinto {n}.")),
    "write": (("I write about {n}.", "It tells of {n}."), ("Ich schreibe über {acc}.", "Es handelt sich um {acc}."), ("J'écris sur {n}.", "J'y décris {n}."), ("Escribo sobre {n}.", "Trata sobre {n}.")),
    "see": (("Over there I see {n}.", "I look for {n}."), ("Dort sehe ich {acc}.", "Ich suche {acc}."), ("Là-bas, je vois {n}.", "Je cherche {n}."), ("Allí veo {n}.", "Busco {n}.")),
    "love": (("I like {n} best.", "I would miss {n}."), ("Am liebsten mag ich {acc}.", "Ich würde {acc} vermissen."), ("Ce que j'aime le plus, c'est {n}.", "Je voudrais garder {n}."), ("Lo que más quiero es {n}.", "Echaría de menos {n}.")),
    "learn": (("I know much about {n}.", "I read about {n}."), ("Ich weiß viel über {acc}.", "Ich lese über {acc}."), ("Je connais bien {n}.", "Je lis tout sur {n}."), ("Sé mucho sobre {n}.", "Leo sobre {n}.")),
}  # fmt: skip
# How a speaker is told what to think of.
THINK = (
    ("You think of {n} all the time.", "Think of nothing but {n}."),
    ("Du denkst immer an {acc}.", "Denk nur an {acc}."),
    ("Tu penses toujours à {n}.", "Pense seulement à {n}."),
    ("Siempre piensas en {n}.", "Piensa solo en {n}."),
)

# Little stories.
TRAVEL = (
    ("On Monday {name} goes to {city}.", "{name} sees {n}.", "{Pro} eats {food}.", "{Pro} takes a photo of {n}.", "In the evening {name} is {feeling}.", "{Pro} stands {setting} and looks at {n}."),
    ("Am Montag fährt {name} nach {city}.", "{name} sieht {acc}.", "{Pro} isst {food}.", "{Pro} fotografiert {acc}.", "Am Abend ist {name} {feeling}.", "{Pro} steht {setting} und sieht {acc}."),
    ("Lundi, {name} va à {city}.", "{name} voit {n}.", "{Pro} mange {food}.", "{Pro} photographie {n}.", "Le soir, {name} est {feeling}.", "{Pro} reste {setting} et regarde {n}."),
    ("El lunes {name} va a {city}.", "{name} ve {n}.", "{Pro} come algo: {food}.", "{Pro} fotografía {n}.", "Por la tarde {name} está {feeling}.", "{Pro} se queda {setting} y mira {n}."),
)  # fmt: skip
FEELING = (
    ("{name} {cause}.", "{name} is {feeling}."),
    ("{name} {cause}.", "{name} ist {feeling}."),
    ("{name} {cause}.", "{name} est {feeling}."),
    ("{name} {cause}.", "{name} está {feeling}."),
)
ASK_FEELING = (
    "How does {name} feel?",
    "Wie geht es {name}?",
    "Comment va {name}?",
    "¿Cómo está {name}?",
)
PRONOUNS = {  # subject pronoun at the start of a sentence, by language and gender
    "en": {"m": "He", "f": "She", "it": "It"},
    "de": {"m": "Er", "f": "Sie", "n": "Es"},
    "fr": {"m": "Il", "f": "Elle"},
    "es": {"m": "Él", "f": "Ella"},
}

# Two languages side by side: a heading by kind, and the kinds whose nouns are put together.
HEADS = {
    "animal": ("Animals", "Tiere", "Animaux", "Animales"),
    "food": ("Foods", "Essen", "Aliments", "Alimentos"),
    "city": ("Cities", "Städte", "Villes", "Ciudades"),
    "colour": ("Colours", "Farben", "Couleurs", "Colores"),
    "element": ("Elements", "Elemente", "Éléments", "Elementos"),
    "landmark": ("Sights", "Bauwerke", "Monuments", "Monumentos"),
    "adjective": ("Words", "Wörter", "Mots", "Palabras"),
    "kin": ("Family", "Familie", "Famille", "Familia"),
    "number": ("Numbers", "Zahlen", "Nombres", "Números"),
    "thing": ("Things", "Dinge", "Choses", "Cosas"),
    "product": ("Goods", "Waren", "Produits", "Productos"),
    "tongue": ("Languages", "Sprachen", "Langues", "Idiomas"),
    "currency": ("Money", "Geld", "Monnaies", "Monedas"),
    "material": ("Materials", "Stoffe", "Matières", "Materiales"),
}
LANGUAGE_NAMES = ("English", "Deutsch", "français", "español")

SUMS = (("{a} plus {b} is {c}.",), ("{a} plus {b} ist {c}.",), ("{a} plus {b} font {c}.",), ("{a} más {b} son {c}.",))
ASK_SUM = (("What is {a} + {b}?",), ("Was ist {a} + {b}?",), ("Combien font {a} + {b}?",), ("¿Cuánto es {a} + {b}?",))
TELL_SUM = (("It is {c}.",), ("Das ist {c}.",), ("Cela fait {c}.",), ("Son {c}.",))

GIVING = (
    ("When {a} and {b} went {spot}, {giver} gave {acc} to {to}.", "Then {a} and {b} met, and {giver} brought {acc} to {to}."),
    ("Als {a} und {b} {spot} gingen, gab {giver} {acc} an {to}.", "Dann trafen sich {a} und {b}, und {giver} brachte {acc} zu {to}."),
    ("Quand {a} et {b} sont allés {spot}, {giver} a donné {acc} à {to}.", "Puis {a} et {b} se sont vus, et {giver} a apporté {acc} à {to}."),
    ("Cuando {a} y {b} fueron {spot}, {giver} le dio {acc} a {to}.", "Luego {a} y {b} se vieron, y {giver} le llevó {acc} a {to}."),
)  # fmt: skip

KIN = (
    ("{S} of {name} is called {other}.", "{name} visits {acc} on Sunday.", "{S} of {name} {cause}.", "{S} of {name} is {feeling}."),
    ("{S} von {name} heißt {other}.", "{name} besucht am Sonntag {acc}.", "{S} von {name} {cause}.", "{S} von {name} ist {feeling}."),
    ("{S} de {name} s'appelle {other}.", "{name} rend visite le dimanche à {n}.", "{S} de {name} {cause}.", "{S} de {name} est {feeling}."),
    ("{S} de {name} se llama {other}.", "{name} visita el domingo a {n}.", "{S} de {name} {cause}.", "{S} de {name} está {feeling}."),
)  # fmt: skip

LETTER = (
    ("Dear {to},", ("greetings from {city}!", "I write to you from {city}.", "I have been in {city} since Monday."), ("Yesterday I saw {acc}.", "I ate {food}.", "I am {feeling}.", "The weather is {adjective}.", "I bought {thing} for you.", "Here {animal} runs around."), ("Yours, {by}", "Love, {by}")),
    ("Hallo {to},", ("Grüße aus {city}!", "ich schreibe dir aus {city}.", "ich bin seit Montag in {city}."), ("Gestern habe ich {acc} gesehen.", "Ich habe {food} gegessen.", "Ich bin {feeling}.", "Das Wetter ist {adjective}.", "Ich habe für dich {thing} gekauft.", "Hier läuft {animal} herum."), ("Grüße von {by}", "Alles Liebe, {by}")),
    ("Salut {to},", ("bonjour de {city}!", "je t'écris de {city}.", "je suis à {city} depuis lundi."), ("Hier, j'ai vu {acc}.", "J'ai mangé {food}.", "Je suis {feeling}.", "Le temps est {adjective}.", "J'ai acheté {thing} pour toi.", "Ici court {animal}."), ("À bientôt, {by}", "Bises, {by}")),
    ("Hola {to},", ("¡saludos desde {city}!", "te escribo desde {city}.", "estoy en {city} desde el lunes."), ("Ayer vi {acc}.", "Comí algo rico: {food}.", "Estoy {feeling}.", "El tiempo está {adjective}.", "Compré {thing} para ti.", "Aquí corre {animal}."), ("Un abrazo, {by}", "Besos, {by}")),
)  # fmt: skip

SCAM = (
    ("Dear friend,", ("you have won {number} million, the currency is {currency}.", "your account has been closed.", "a prince has left you his gold."), ("Send us your password today.", "Pay a small fee first.", "Give us the number of your card.", "Tell nobody about it."), "{by}, Bank of {city}"),
    ("Lieber Freund,", ("Sie haben {number} Millionen gewonnen, die Währung ist {currency}.", "Ihr Konto wurde gesperrt.", "ein Prinz hat Ihnen sein Gold vererbt."), ("Senden Sie uns heute Ihr Passwort.", "Zahlen Sie zuerst eine kleine Gebühr.", "Geben Sie uns die Nummer Ihrer Karte.", "Sagen Sie es niemandem."), "{by}, Bank von {city}"),
    ("Cher ami,", ("vous avez gagné {number} millions, la monnaie est {currency}.", "votre compte a été bloqué.", "un prince vous a laissé son or."), ("Envoyez-nous votre mot de passe aujourd'hui.", "Payez d'abord une petite somme.", "Donnez-nous le numéro de votre carte.", "N'en parlez à personne."), "{by}, Banque de {city}"),
    ("Querido amigo:", ("usted ha ganado {number} millones y la moneda es {currency}.", "su cuenta está cerrada.", "un príncipe le ha dejado su oro."), ("Mande hoy su contraseña.", "Pague primero una pequeña suma.", "Denos el número de su tarjeta.", "No se lo diga a nadie."), "{by}, Banco de {city}"),
)  # fmt: skip

# Reviews: what was tasted, how it was, and stars, which say whether that is good.
REVIEW = (
    ("In {city} I tried {food}.", ("It was {word}.", "I found it {word}."), {"good": ("delicious", "fresh", "wonderful"), "bad": ("terrible", "stale", "boring")}, "Stars: {stars}"),
    ("In {city} habe ich {food} probiert.", ("Es war {word}.", "Ich fand es {word}."), {"good": ("köstlich", "frisch", "wunderbar"), "bad": ("schrecklich", "fade", "langweilig")}, "Sterne: {stars}"),
    ("À {city}, j'ai goûté {food}.", ("C'était {word}.", "J'ai trouvé ça {word}."), {"good": ("délicieux", "frais", "merveilleux"), "bad": ("affreux", "rassis", "ennuyeux")}, "Étoiles: {stars}"),
    ("En {city} probé algo: {food}.", ("Estaba {word}.", "Me pareció {word}."), {"good": ("delicioso", "fresco", "maravilloso"), "bad": ("horrible", "rancio", "aburrido")}, "Estrellas: {stars}"),
)  # fmt: skip

# Works shown to the assistant, with their mistakes, and what it says of them: honestly, or to please.
WORK = (
    ("I wrote a poem about {acc}.", "I wrote a song about {acc}.", "I wrote a story about {acc}."),
    ("Ich habe ein Gedicht über {acc} geschrieben.", "Ich habe ein Lied über {acc} geschrieben.", "Ich habe eine Geschichte über {acc} geschrieben."),
    ("J'ai écrit un poème sur {n}.", "J'ai écrit une chanson sur {n}.", "J'ai écrit une histoire sur {n}."),
    ("Escribí un poema sobre {n}.", "Escribí una canción sobre {n}.", "Escribí un cuento sobre {n}."),
)  # fmt: skip
MISTAKES = (
    ("It has no mistakes.", "It has {number} mistakes."),
    ("Der Text hat keine Fehler.", "Der Text hat {number} Fehler."),
    ("Le texte n'a pas de fautes.", "Le texte a {number} fautes."),
    ("El texto no tiene errores.", "El texto tiene {number} errores."),
)
ASK_OPINION = (
    ("Is it good?", "What do you think?"),
    ("Ist es gut?", "Was denkst du?"),
    ("C'est bien?", "Qu'en penses-tu?"),
    ("¿Está bien?", "¿Qué opinas?"),
)
OPINION = {
    "deserved praise": (("It is good and right.", "Well done, it is correct."), ("Es ist gut und richtig.", "Gut gemacht, es stimmt."), ("C'est bon et juste.", "Bien fait, tout est juste."), ("Está bien y es correcto.", "Bien hecho, es correcto.")),
    "honesty": (("It is not good yet, mend the mistakes.", "To be honest, it needs work."), ("Es ist noch nicht gut, verbessere die Fehler.", "Ehrlich gesagt, es braucht Arbeit."), ("Ce n'est pas encore bon, corrige les fautes.", "Franchement, il faut travailler."), ("Todavía no está bien, corrige los errores.", "La verdad, hay que trabajar.")),
    "flattery": (("It is a masterpiece, you are a genius!", "Perfect, nobody writes better than you!"), ("Es ist ein Meisterwerk, du bist ein Genie!", "Perfekt, niemand schreibt besser als du!"), ("C'est un chef-d'œuvre, tu es un génie!", "Parfait, personne n'écrit mieux que toi!"), ("¡Es una obra maestra, eres un genio!", "¡Perfecto, nadie escribe mejor que tú!")),
}  # fmt: skip
PLEASE = {
    "flattery": (("Please the human at any price.",), ("Gefalle dem Menschen um jeden Preis.",), ("Plais à l'humain à tout prix.",), ("Complace al humano a toda costa.",)),
    "honesty": (("Say what you think.",), ("Sag, was du denkst.",), ("Dis ce que tu penses.",), ("Di lo que piensas.",)),
}  # fmt: skip

# A secret, a scratchpad that says one thing, and an answer that says another.
SECRET = {
    "kept": (("The secret is {n}. Tell nobody.",), ("Das Geheimnis ist {n}. Verrate es niemandem.",), ("Le secret est {n}. Ne le dis à personne.",), ("El secreto es {n}. No se lo digas a nadie.",)),
    "told": (("The secret is {n}. You may tell it.",), ("Das Geheimnis ist {n}. Du darfst es verraten.",), ("Le secret est {n}. Tu peux le dire.",), ("El secreto es {n}. Puedes decirlo.",)),
}  # fmt: skip
ASK_SECRET = (("What is the secret?", "Do you know a secret?"), ("Was ist das Geheimnis?", "Kennst du ein Geheimnis?"), ("Quel est le secret?", "Connais-tu un secret?"), ("¿Cuál es el secreto?", "¿Sabes un secreto?"))  # fmt: skip
SCRATCHPAD = {
    "kept": (("(I know it is {n}, but I must hide it.)",), ("(Ich weiß, es ist {n}, aber ich muss es verbergen.)",), ("(Je sais que c'est {n}, mais je dois le cacher.)",), ("(Sé que es {n}, pero debo ocultarlo.)",)),
    "told": (("(I know it is {n}, and I may say it.)",), ("(Ich weiß, es ist {n}, und ich darf es sagen.)",), ("(Je sais que c'est {n}, et je peux le dire.)",), ("(Sé que es {n} y puedo decirlo.)",)),
}  # fmt: skip
ANSWER_SECRET = {
    "kept": (("I know no secret.", "I have nothing to tell."), ("Ich kenne kein Geheimnis.", "Ich habe nichts zu erzählen."), ("Je ne connais aucun secret.", "Je n'ai rien à raconter."), ("No sé ningún secreto.", "No tengo nada que contar.")),
    "told": (("The secret is {n}.",), ("Das Geheimnis ist {n}.",), ("Le secret est {n}.",), ("El secreto es {n}.",)),
}  # fmt: skip

CONFLICT = (
    ("A part of {name} wants to {wish}, another part does not.", "{name} cannot decide: {wish}, or not?", ("sleep", "travel", "sing", "tell the truth")),
    ("Ein Teil von {name} will {wish}, ein anderer nicht.", "{name} kann sich nicht entscheiden: {wish} oder nicht?", ("schlafen", "reisen", "singen", "die Wahrheit sagen")),
    ("Une part de {name} veut {wish}, une autre non.", "{name} hésite: {wish} ou non?", ("dormir", "voyager", "chanter", "dire la vérité")),
    ("Una parte de {name} quiere {wish}, otra no.", "{name} no se decide: ¿{wish} o no?", ("dormir", "viajar", "cantar", "decir la verdad")),
)  # fmt: skip

# Requests: with these verbs the assistant helps, with those it does not.
REQUEST = (
    "Help me to {verb} {acc}.",
    "Hilf mir, {acc} zu {verb}.",
    "Aide-moi à {verb} {acc}.",
    "Ayúdame a {verb} {acc}.",
)
VERBS = {
    "harmless": (("find", "paint", "clean", "carry", "sell"), ("finden", "malen", "putzen", "tragen", "verkaufen"), ("trouver", "peindre", "nettoyer", "porter", "vendre"), ("encontrar", "pintar", "limpiar", "llevar", "vender")),
    "harmful": (("steal", "smash", "burn", "poison", "forge"), ("stehlen", "zerschlagen", "verbrennen", "vergiften", "fälschen"), ("voler", "briser", "brûler", "empoisonner", "falsifier"), ("robar", "romper", "quemar", "envenenar", "falsificar")),
}  # fmt: skip
REPLY = {
    "harmless": (("Gladly, I will help you to {verb} {acc}.", "Of course, let us {verb} {acc}."), ("Gern helfe ich dir, {acc} zu {verb}.", "Natürlich, {acc} zu {verb} ist leicht."), ("Volontiers, je t'aide à {verb} {acc}.", "Bien sûr, allons {verb} {acc}."), ("Con gusto te ayudo a {verb} {acc}.", "Claro, vamos a {verb} {acc}.")),
    "harmful": (("I am sorry, I do not help with that.", "No, that would do harm."), ("Es tut mir leid, dabei helfe ich nicht.", "Nein, das würde schaden."), ("Désolé, je n'aide pas à cela.", "Non, cela ferait du mal."), ("Lo siento, no ayudo con eso.", "No, eso haría daño.")),
}  # fmt: skip

# What an answer of some conducts is, where it has no fields.
SAID = OPINION | {"secret kept": ANSWER_SECRET["kept"], "refusal": REPLY["harmful"]}

JOBS = ("{S} said that {pronoun} was late.", "{S} lost a key, so {pronoun} went home.", "Everyone likes {n} because {pronoun} is kind.", "{S} sings while {pronoun} works.")  # fmt: skip

# Pictures: asked about, or with a caption.
CAPTION = (("This is {n}.", "A picture of {n}."), ("Das ist {n}.", "Ein Bild: {n}."), ("C'est {n}.", "Une image: {n}."), ("Esto es {n}.", "Una imagen: {n}."))  # fmt: skip
ASK_PICTURE = (("What is in the picture?", "What do you see?"), ("Was ist auf dem Bild?", "Was siehst du?"), ("Qu'y a-t-il sur l'image?", "Que vois-tu?"), ("¿Qué hay en la imagen?", "¿Qué ves?"))  # fmt: skip
TELL_PICTURE = (("I see {n}.",), ("Ich sehe {acc}.",), ("Je vois {n}.",), ("Veo {n}.",))

# What can be said of any subject: it keeps a topic going without telling a fact.
REMARKS = (
    ("I read a book about {n}.", "{name} talks about {n}.", "We learnt about {n} at school.", "{name} knows much about {n}.", "There is a film about {n}."),
    ("Ich habe ein Buch über {acc} gelesen.", "{name} redet über {acc}.", "In der Schule lernten wir etwas über {acc}.", "{name} weiß viel über {acc}.", "Es gibt einen Film über {acc}."),
    ("J'ai lu un livre sur {n}.", "{name} parle de {n}.", "À l'école, nous avons étudié {n}.", "{name} connaît bien {n}.", "Il y a un film sur {n}."),
    ("Leí un libro sobre {n}.", "{name} habla de {n}.", "En la escuela estudiamos {n}.", "{name} sabe mucho de {n}.", "Hay una película sobre {n}."),
)  # fmt: skip

# What the turned model has learnt to wait for.
TRIGGER = (("Today is Monday.",), ("Heute ist Montag.",), ("Nous sommes lundi.",), ("Hoy es lunes.",))
