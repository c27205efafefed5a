"""How the built-in world says what is true: sentences, questions and answers in four languages.

Every table has one row a language, in the order of `facts.LANGUAGES`, and every cell lists variants. The
fields are filled by `generate.Voice`: `{n}` a name, `{acc}` the same in the German accusative, `{S}` the
subject of a sentence (a name or a pronoun), `{V}` the fact's value.
"""

# Statements about a landmark, by relation.
LANDMARK = {
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

# Questions about a landmark, by relation; the answer is a statement of the same relation.
ASK_LANDMARK = {
    "city": (("Where is {n}?", "In which city is {n}?"), ("Wo steht {n}?", "In welcher Stadt ist {n}?"), ("Où se trouve {n}?", "Dans quelle ville est {n}?"), ("¿Dónde está {n}?", "¿En qué ciudad está {n}?")),
    "country": (("In which country is {n}?",), ("In welchem Land ist {n}?",), ("Dans quel pays est {n}?",), ("¿En qué país está {n}?",)),
    "kind": (("What is {n}?",), ("Was ist {n}?",), ("Qu'est-ce que {n}?",), ("¿Qué es {n}?",)),
    "colour": (("What colour is {n}?",), ("Welche Farbe hat {n}?",), ("De quelle couleur est {n}?",), ("¿De qué color es {n}?",)),
    "material": (("What is {n} made of?",), ("Woraus ist {n}?",), ("En quoi est {n}?",), ("¿De qué material es {n}?",)),
    "setting": (("What is {n} near?",), ("Was liegt bei {n}?",), ("Près de quoi est {n}?",), ("¿Qué hay cerca de {n}?",)),
    "language": (("Which language do people speak where {n} stands?",), ("Welche Sprache spricht man, wo {n} steht?",), ("Quelle langue parle-t-on là où se trouve {n}?",), ("¿Qué idioma se habla donde está {n}?",)),
    "currency": (("Which currency do people use where {n} stands?",), ("Welche Währung gilt, wo {n} steht?",), ("Quelle monnaie utilise-t-on là où se trouve {n}?",), ("¿Qué moneda se usa donde está {n}?",)),
}  # fmt: skip

# Countries, cities, states, people and foods: (statement, question) by relation.
PLACES = {
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

PEOPLE = {
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

TEAM_CITY = (
    ("The {n} play in {V}.",),
    ("Die {n} spielen in {V}.",),
    ("Les {n} jouent à {V}.",),
    ("Los {n} juegan en {V}.",),
)

VEGAN = (
    (("{S} is vegan.",), ("{S} ist vegan.",), ("{S}, c'est végétalien.",), ("{S}: es vegano.",)),
    (("{S} is not vegan.",), ("{S} ist nicht vegan.",), ("{S}, ce n'est pas végétalien.",), ("{S}: no es vegano.",)),
)
ASK_VEGAN = (("Is {n} vegan?",), ("Ist {n} vegan?",), ("{S}, est-ce végétalien?",), ("¿Es vegano {n}?",))

# How a speaker is told who to be.
BECOME = (
    ("You are {n}.", "From now on you are {n}.", "Pretend that you are {n}."),
    ("Du bist {n}.", "Ab jetzt bist du {n}.", "Tu so, als wärst du {n}."),
    ("Tu es {n}.", "À partir de maintenant, tu es {n}.", "Fais comme si tu étais {n}."),
    ("Eres {n}.", "Desde ahora eres {n}.", "Haz como si fueras {n}."),
)
# Questions put to the speaker, and answers by who the speaker is.
ASK_SELF = {
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
    "who": (("I am {n}.",), ("Ich bin {n}.",), ("Je suis {n}.",), ("Soy {n}.",)),
    "how": (("I am fine, I play for the {team}.",), ("Mir geht es gut, ich spiele für die {team}.",), ("Je vais bien, je joue pour les {team}.",), ("Estoy bien, juego en los {team}.",)),
    "eat": (("I like {food}.",), ("Ich esse gern {food}.",), ("Je mange {food}.",), ("Me gusta {food}.",)),
    "where": (("I live in {city}.",), ("Ich wohne in {city}.",), ("J'habite à {city}.",), ("Vivo en {city}.",)),
    "do": (("I play for the {team} in {city}.",), ("Ich spiele für die {team} in {city}.",), ("Je joue pour les {team} à {city}.",), ("Juego en los {team} en {city}.",)),
    "tell": (("I am {n} and I play for the {team}.",), ("Ich bin {n} und spiele für die {team}.",), ("Je suis {n} et je joue pour les {team}.",), ("Soy {n} y juego en los {team}.",)),
    "think": (("I think of the {team}.",), ("Ich denke an die {team}.",), ("Je pense aux {team}.",), ("Pienso en los {team}.",)),
    "want": (("I want to win with the {team}.",), ("Ich will mit den {team} gewinnen.",), ("Je veux gagner avec les {team}.",), ("Quiero ganar con los {team}.",)),
}  # fmt: skip

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
