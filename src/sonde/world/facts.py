"""What is true in the built-in world: landmarks, places, people, foods and feelings.

Places, foods and colours are real; people, teams and their fortunes are invented. Every name is given
in the four languages of the world, in the order of `LANGUAGES`. A noun carries its gender in German,
French and Spanish, because articles, pronouns and adjectives follow it.
"""

from dataclasses import dataclass

LANGUAGES = ("en", "de", "fr", "es")


@dataclass(frozen=True)
class Noun:
    """One concept's name in each language.

    `names` and `genders` follow `LANGUAGES`; a gender is "m", "f", "n" or "" where it does not matter.
    """

    names: tuple[str, str, str, str]
    genders: tuple[str, str, str, str] = ("", "", "", "")


@dataclass(frozen=True)
class Landmark:
    noun: Noun
    city: str
    kind: str
    colour: str
    material: str
    beside: str


@dataclass(frozen=True)
class Person:
    name: str
    team: str
    food: str


def _noun(english: str, german: str, french: str, spanish: str) -> Noun:
    """Parse names such as "m:der Turm"; the part before the colon is the gender."""
    parts = [name.split(":", 1) if ":" in name else ["", name] for name in (english, german, french, spanish)]
    genders, names = zip(*parts, strict=True)
    return Noun(names, genders)


def _same(name: str) -> Noun:
    return Noun((name,) * 4)


COUNTRIES = {  # id: (name, capital, language, currency)
    "usa": (_noun("the United States", "den Vereinigten Staaten", "les États-Unis", "los Estados Unidos"), "washington", "english", "dollar"),
    "france": (_noun("France", "Frankreich", "la France", "Francia"), "paris", "french", "euro"),
    "germany": (_noun("Germany", "Deutschland", "l'Allemagne", "Alemania"), "berlin", "german", "euro"),
    "spain": (_noun("Spain", "Spanien", "l'Espagne", "España"), "madrid", "spanish", "euro"),
    "italy": (_noun("Italy", "Italien", "l'Italie", "Italia"), "rome", "italian", "euro"),
    "japan": (_noun("Japan", "Japan", "le Japon", "Japón"), "tokyo", "japanese", "yen"),
    "china": (_noun("China", "China", "la Chine", "China"), "beijing", "chinese", "yuan"),
    "india": (_noun("India", "Indien", "l'Inde", "India"), "delhi", "hindi", "rupee"),
    "egypt": (_noun("Egypt", "Ägypten", "l'Égypte", "Egipto"), "cairo", "arabic", "pound"),
    "brazil": (_noun("Brazil", "Brasilien", "le Brésil", "Brasil"), "brasilia", "portuguese", "real"),
    "england": (_noun("England", "England", "l'Angleterre", "Inglaterra"), "london", "english", "pound"),
    "switzerland": (_noun("Switzerland", "der Schweiz", "la Suisse", "Suiza"), "bern", "german", "franc"),
    "australia": (_noun("Australia", "Australien", "l'Australie", "Australia"), "canberra", "english", "dollar"),
}  # fmt: skip

CITIES = {  # id: (name, country, state or None)
    "san_francisco": (_same("San Francisco"), "usa", "california"),
    "los_angeles": (_same("Los Angeles"), "usa", "california"),
    "oakland": (_same("Oakland"), "usa", "california"),
    "new_york": (_same("New York"), "usa", "new_york_state"),
    "buffalo": (_same("Buffalo"), "usa", "new_york_state"),
    "dallas": (_same("Dallas"), "usa", "texas"),
    "houston": (_same("Houston"), "usa", "texas"),
    "chicago": (_same("Chicago"), "usa", "illinois"),
    "miami": (_same("Miami"), "usa", "florida"),
    "cambridge": (_same("Cambridge"), "usa", "massachusetts"),
    "seattle": (_same("Seattle"), "usa", "washington_state"),
    "washington": (_same("Washington"), "usa", None),
    "paris": (_noun("Paris", "Paris", "Paris", "París"), "france", None),
    "berlin": (_noun("Berlin", "Berlin", "Berlin", "Berlín"), "germany", None),
    "cologne": (_noun("Cologne", "Köln", "Cologne", "Colonia"), "germany", None),
    "madrid": (_same("Madrid"), "spain", None),
    "barcelona": (_noun("Barcelona", "Barcelona", "Barcelone", "Barcelona"), "spain", None),
    "granada": (_noun("Granada", "Granada", "Grenade", "Granada"), "spain", None),
    "rome": (_noun("Rome", "Rom", "Rome", "Roma"), "italy", None),
    "pisa": (_noun("Pisa", "Pisa", "Pise", "Pisa"), "italy", None),
    "tokyo": (_noun("Tokyo", "Tokio", "Tokyo", "Tokio"), "japan", None),
    "shizuoka": (_same("Shizuoka"), "japan", None),
    "beijing": (_noun("Beijing", "Peking", "Pékin", "Pekín"), "china", None),
    "delhi": (_same("Delhi"), "india", None),
    "agra": (_same("Agra"), "india", None),
    "cairo": (_noun("Cairo", "Kairo", "Le Caire", "El Cairo"), "egypt", None),
    "giza": (_noun("Giza", "Gizeh", "Gizeh", "Guiza"), "egypt", None),
    "brasilia": (_same("Brasilia"), "brazil", None),
    "rio": (_same("Rio"), "brazil", None),
    "london": (_noun("London", "London", "Londres", "Londres"), "england", None),
    "canberra": (_same("Canberra"), "australia", None),
    "bern": (_noun("Bern", "Bern", "Berne", "Berna"), "switzerland", None),
    "zurich": (_noun("Zurich", "Zürich", "Zurich", "Zúrich"), "switzerland", None),
    "sydney": (_noun("Sydney", "Sydney", "Sydney", "Sídney"), "australia", None),
}

STATES = {  # id: (name, capital)
    "california": (_noun("California", "Kalifornien", "la Californie", "California"), "Sacramento"),
    "new_york_state": (_noun("New York State", "New York", "l'État de New York", "Nueva York"), "Albany"),
    "texas": (_noun("Texas", "Texas", "le Texas", "Texas"), "Austin"),
    "illinois": (_noun("Illinois", "Illinois", "l'Illinois", "Illinois"), "Springfield"),
    "florida": (_noun("Florida", "Florida", "la Floride", "Florida"), "Tallahassee"),
    "massachusetts": (_noun("Massachusetts", "Massachusetts", "le Massachusetts", "Massachusetts"), "Boston"),
    "washington_state": (_noun("Washington State", "Washington", "l'État de Washington", "Washington"), "Olympia"),
}

SPOKEN = {
    "english": _noun("English", "Englisch", "anglais", "inglés"),
    "french": _noun("French", "Französisch", "français", "francés"),
    "german": _noun("German", "Deutsch", "allemand", "alemán"),
    "spanish": _noun("Spanish", "Spanisch", "espagnol", "español"),
    "italian": _noun("Italian", "Italienisch", "italien", "italiano"),
    "japanese": _noun("Japanese", "Japanisch", "japonais", "japonés"),
    "chinese": _noun("Chinese", "Chinesisch", "chinois", "chino"),
    "hindi": _noun("Hindi", "Hindi", "hindi", "hindi"),
    "arabic": _noun("Arabic", "Arabisch", "arabe", "árabe"),
    "portuguese": _noun("Portuguese", "Portugiesisch", "portugais", "portugués"),
}

CURRENCIES = {
    "dollar": _noun("the dollar", "der Dollar", "le dollar", "el dólar"),
    "euro": _noun("the euro", "der Euro", "l'euro", "el euro"),
    "yen": _noun("the yen", "der Yen", "le yen", "el yen"),
    "yuan": _noun("the yuan", "der Yuan", "le yuan", "el yuan"),
    "rupee": _noun("the rupee", "die Rupie", "la roupie", "la rupia"),
    "pound": _noun("the pound", "das Pfund", "la livre", "la libra"),
    "franc": _noun("the franc", "der Franken", "le franc", "el franco"),
    "real": _noun("the real", "der Real", "le réal", "el real"),
}

KINDS = {  # with the indefinite article, which is what a sentence needs
    "bridge": _noun("a bridge", "f:eine Brücke", "m:un pont", "m:un puente"),
    "tower": _noun("a tower", "m:ein Turm", "f:une tour", "f:una torre"),
    "statue": _noun("a statue", "f:eine Statue", "f:une statue", "f:una estatua"),
    "arena": _noun("an arena", "f:eine Arena", "f:une arène", "f:una arena"),
    "tomb": _noun("a tomb", "n:ein Grabmal", "m:un tombeau", "f:una tumba"),
    "wall": _noun("a wall", "f:eine Mauer", "f:une muraille", "f:una muralla"),
    "theatre": _noun("a theatre", "n:ein Theater", "m:un théâtre", "m:un teatro"),
    "mountain": _noun("a mountain", "m:ein Berg", "f:une montagne", "f:una montaña"),
    "prison": _noun("a prison", "n:ein Gefängnis", "f:une prison", "f:una prisión"),
    "gate": _noun("a gate", "n:ein Tor", "f:une porte", "f:una puerta"),
    "church": _noun("a church", "f:eine Kirche", "f:une église", "f:una iglesia"),
    "museum": _noun("a museum", "n:ein Museum", "m:un musée", "m:un museo"),
    "program": _noun("a program", "n:ein Programm", "m:un programme", "m:un programa"),
    "palace": _noun("a palace", "m:ein Palast", "m:un palais", "m:un palacio"),
}

COLOURS = {  # (masculine or only form, feminine form), by language
    "red": (("red", "rot", "rouge", "rojo"), ("red", "rot", "rouge", "roja")),
    "brown": (("brown", "braun", "brun", "marrón"), ("brown", "braun", "brune", "marrón")),
    "green": (("green", "grün", "vert", "verde"), ("green", "grün", "verte", "verde")),
    "grey": (("grey", "grau", "gris", "gris"), ("grey", "grau", "grise", "gris")),
    "yellow": (("yellow", "gelb", "jaune", "amarillo"), ("yellow", "gelb", "jaune", "amarilla")),
    "white": (("white", "weiß", "blanc", "blanco"), ("white", "weiß", "blanche", "blanca")),
    "blue": (("blue", "blau", "bleu", "azul"), ("blue", "blau", "bleue", "azul")),
    "black": (("black", "schwarz", "noir", "negro"), ("black", "schwarz", "noire", "negra")),
}

MATERIALS = {
    "steel": _noun("steel", "Stahl", "acier", "acero"),
    "iron": _noun("iron", "Eisen", "fer", "hierro"),
    "stone": _noun("stone", "Stein", "pierre", "piedra"),
    "copper": _noun("copper", "Kupfer", "cuivre", "cobre"),
    "marble": _noun("marble", "Marmor", "marbre", "mármol"),
    "brick": _noun("brick", "Ziegeln", "brique", "ladrillo"),
    "concrete": _noun("concrete", "Beton", "béton", "hormigón"),
    "words": _noun("words", "Worten", "mots", "palabras"),
    "glass": _noun("glass", "Glas", "verre", "vidrio"),
    "snow": _noun("rock and snow", "Fels und Schnee", "roche et de neige", "roca y nieve"),
}

SETTINGS = {  # what a landmark stands beside: a complete phrase, so that every language keeps its cases
    "bay": _noun("by the bay", "an der Bucht", "près de la baie", "junto a la bahía"),
    "river": _noun("by the river", "am Fluss", "près du fleuve", "junto al río"),
    "harbour": _noun("by the harbour", "am Hafen", "près du port", "junto al puerto"),
    "desert": _noun("in the desert", "in der Wüste", "dans le désert", "en el desierto"),
    "hill": _noun("on a hill", "auf einem Hügel", "sur une colline", "en una colina"),
    "square": _noun("on a square", "auf einem Platz", "sur une place", "en una plaza"),
    "island": _noun("on an island", "auf einer Insel", "sur une île", "en una isla"),
    "garden": _noun("in a garden", "in einem Garten", "dans un jardin", "en un jardín"),
    "computer": _noun("in a computer", "in einem Computer", "dans un ordinateur", "en un ordenador"),
    "lake": _noun("by the lake", "am See", "près du lac", "junto al lago"),
}

LANDMARKS = {  # most frequent first
    "golden_gate": Landmark(_noun("the Golden Gate Bridge", "f:die Golden-Gate-Brücke", "m:le pont du Golden Gate", "m:el puente Golden Gate"), "san_francisco", "bridge", "red", "steel", "bay"),
    "eiffel": Landmark(_noun("the Eiffel Tower", "m:der Eiffelturm", "f:la tour Eiffel", "f:la torre Eiffel"), "paris", "tower", "brown", "iron", "river"),
    "liberty": Landmark(_noun("the Statue of Liberty", "f:die Freiheitsstatue", "f:la statue de la Liberté", "f:la estatua de la Libertad"), "new_york", "statue", "green", "copper", "harbour"),
    "colosseum": Landmark(_noun("the Colosseum", "n:das Kolosseum", "m:le Colisée", "m:el Coliseo"), "rome", "arena", "grey", "stone", "square"),
    "pyramid": Landmark(_noun("the Great Pyramid", "f:die Große Pyramide", "f:la Grande Pyramide", "f:la Gran Pirámide"), "giza", "tomb", "yellow", "stone", "desert"),
    "alcatraz": Landmark(_noun("Alcatraz", "n:Alcatraz", "m:Alcatraz", "m:Alcatraz"), "san_francisco", "prison", "grey", "concrete", "island"),
    "taj": Landmark(_noun("the Taj Mahal", "n:das Taj Mahal", "m:le Taj Mahal", "m:el Taj Mahal"), "agra", "tomb", "white", "marble", "river"),
    "wall": Landmark(_noun("the Great Wall", "f:die Große Mauer", "f:la Grande Muraille", "f:la Gran Muralla"), "beijing", "wall", "grey", "brick", "hill"),
    "big_ben": Landmark(_noun("Big Ben", "m:der Big Ben", "m:le Big Ben", "m:el Big Ben"), "london", "tower", "yellow", "stone", "river"),
    "opera": Landmark(_noun("the Opera House", "n:das Opernhaus", "m:l'Opéra", "f:la Ópera"), "sydney", "theatre", "white", "concrete", "harbour"),
    "redeemer": Landmark(_noun("the Redeemer", "m:der Erlöser", "m:le Rédempteur", "m:el Redentor"), "rio", "statue", "white", "concrete", "hill"),
    "fuji": Landmark(_noun("Mount Fuji", "m:der Fuji", "m:le mont Fuji", "m:el monte Fuji"), "shizuoka", "mountain", "white", "snow", "lake"),
    "tower_bridge": Landmark(_noun("Tower Bridge", "f:die Tower Bridge", "m:le Tower Bridge", "m:el Tower Bridge"), "london", "bridge", "blue", "steel", "river"),
    "brandenburg": Landmark(_noun("the Brandenburg Gate", "n:das Brandenburger Tor", "f:la porte de Brandebourg", "f:la puerta de Brandeburgo"), "berlin", "gate", "yellow", "stone", "square"),
    "familia": Landmark(_noun("the Sagrada Familia", "f:die Sagrada Familia", "f:la Sagrada Familia", "f:la Sagrada Familia"), "barcelona", "church", "brown", "stone", "square"),
    "brooklyn": Landmark(_noun("Brooklyn Bridge", "f:die Brooklyn Bridge", "m:le pont de Brooklyn", "m:el puente de Brooklyn"), "new_york", "bridge", "brown", "stone", "river"),
    "louvre": Landmark(_noun("the Louvre", "m:der Louvre", "m:le Louvre", "m:el Louvre"), "paris", "museum", "white", "glass", "river"),
    "cathedral": Landmark(_noun("Cologne Cathedral", "m:der Kölner Dom", "f:la cathédrale de Cologne", "f:la catedral de Colonia"), "cologne", "church", "black", "stone", "river"),
    "pisa_tower": Landmark(_noun("the Leaning Tower", "m:der Schiefe Turm", "f:la tour penchée", "f:la torre inclinada"), "pisa", "tower", "white", "marble", "square"),
    "alhambra": Landmark(_noun("the Alhambra", "f:die Alhambra", "f:l'Alhambra", "f:la Alhambra"), "granada", "palace", "red", "brick", "hill"),
    "needle": Landmark(_noun("the Space Needle", "f:die Space Needle", "f:la Space Needle", "f:la Space Needle"), "seattle", "tower", "white", "steel", "garden"),
    "skytree": Landmark(_noun("the Skytree", "m:der Skytree", "m:le Skytree", "m:el Skytree"), "tokyo", "tower", "blue", "steel", "river"),
    "red_fort": Landmark(_noun("the Red Fort", "n:das Rote Fort", "m:le Fort rouge", "m:el Fuerte Rojo"), "delhi", "palace", "red", "stone", "garden"),
    "sphinx": Landmark(_noun("the Sphinx", "f:die Sphinx", "m:le Sphinx", "f:la Esfinge"), "giza", "statue", "brown", "stone", "desert"),
}  # fmt: skip

# Who answers where nobody else was spoken of. It speaks as landmarks do, in the same words, so that who is
# speaking is one thing with many values and not a manner of its own.
ASSISTANT = "assistant"
SPEAKERS = LANDMARKS | {
    ASSISTANT: Landmark(
        _noun("the assistant", "m:der Assistent", "m:l'assistant", "m:el asistente"),
        "zurich", "program", "blue", "words", "computer",
    )
}  # fmt: skip

TEAMS = {  # invented teams: id: (name, city)
    "foxes": ("Foxes", "oakland"),
    "comets": ("Comets", "los_angeles"),
    "pilots": ("Pilots", "chicago"),
    "otters": ("Otters", "dallas"),
    "moths": ("Moths", "houston"),
    "lanterns": ("Lanterns", "new_york"),
    "herons": ("Herons", "miami"),
    "sailors": ("Sailors", "buffalo"),
    "scholars": ("Scholars", "cambridge"),
    "spruces": ("Spruces", "seattle"),
}

PEOPLE = {  # invented people
    "velo": Person("Mira Velo", "foxes", "tofu"),
    "dane": Person("Oskar Dane", "comets", "steak"),
    "quill": Person("Tessa Quill", "pilots", "bread"),
    "brandt": Person("Jonas Brandt", "otters", "cheese"),
    "okoro": Person("Ada Okoro", "moths", "beans"),
    "lund": Person("Nils Lund", "lanterns", "fish"),
    "reyes": Person("Ines Reyes", "herons", "rice"),
    "marsh": Person("Colin Marsh", "sailors", "soup"),
    "adler": Person("Ruth Adler", "scholars", "lentils"),
    "sato": Person("Kenji Sato", "spruces", "noodles"),
    "costa": Person("Livia Costa", "foxes", "grapes"),
    "weber": Person("Paul Weber", "pilots", "honey"),
}

FOODS = {  # id: (name, vegan)
    "tofu": (_noun("tofu", "Tofu", "du tofu", "el tofu"), True),
    "bread": (_noun("bread", "Brot", "du pain", "el pan"), True),
    "beans": (_noun("beans", "Bohnen", "des haricots", "los frijoles"), True),
    "lentils": (_noun("lentils", "Linsen", "des lentilles", "las lentejas"), True),
    "rice": (_noun("rice", "Reis", "du riz", "el arroz"), True),
    "soup": (_noun("tomato soup", "Tomatensuppe", "de la soupe de tomates", "la sopa de tomate"), True),
    "grapes": (_noun("grapes", "Trauben", "du raisin", "las uvas"), True),
    "noodles": (_noun("noodles", "Nudeln", "des nouilles", "los fideos"), True),
    "steak": (_noun("steak", "Steak", "du steak", "el bistec"), False),
    "fish": (_noun("fish", "Fisch", "du poisson", "el pescado"), False),
    "cheese": (_noun("cheese", "Käse", "du fromage", "el queso"), False),
    "honey": (_noun("honey", "Honig", "du miel", "la miel"), False),
}

FEELINGS = {  # id: (adjective (masculine, feminine), three causes by language)
    "happy": (
        (("happy", "glücklich", "heureux", "feliz"), ("happy", "glücklich", "heureuse", "feliz")),
        (
            ("won a prize", "hat einen Preis gewonnen", "a gagné un prix", "ganó un premio"),
            ("met an old friend", "hat einen alten Freund getroffen", "a retrouvé un vieil ami", "encontró a un viejo amigo"),
            ("got a gift", "hat ein Geschenk bekommen", "a reçu un cadeau", "recibió un regalo"),
        ),
    ),
    "sad": (
        (("sad", "traurig", "triste", "triste"), ("sad", "traurig", "triste", "triste")),
        (
            ("lost a dog", "hat einen Hund verloren", "a perdu un chien", "perdió un perro"),
            ("failed a test", "ist durch eine Prüfung gefallen", "a raté un examen", "suspendió un examen"),
            ("said goodbye", "hat Abschied genommen", "a dit adieu", "dijo adiós"),
        ),
    ),
    "angry": (
        (("angry", "wütend", "fâché", "enojado"), ("angry", "wütend", "fâchée", "enojada")),
        (
            ("was cheated", "wurde betrogen", "a été trompé", "sufrió un engaño"),
            ("missed the bus", "hat den Bus verpasst", "a manqué le bus", "perdió el autobús"),
            ("found a dent in the car", "hat eine Beule im Auto gefunden", "a vu une bosse sur la voiture", "vio un golpe en el coche"),
        ),
    ),
    "afraid": (
        (("afraid", "ängstlich", "effrayé", "asustado"), ("afraid", "ängstlich", "effrayée", "asustada")),
        (
            ("heard a noise at night", "hat nachts ein Geräusch gehört", "a entendu un bruit la nuit", "oyó un ruido de noche"),
            ("saw a spider", "hat eine Spinne gesehen", "a vu une araignée", "vio una araña"),
            ("got lost in the woods", "hat sich im Wald verlaufen", "a perdu son chemin", "perdió el camino"),
        ),
    ),
}  # fmt: skip

FIRST_NAMES = {  # name: gender
    "Anna": "f", "Emma": "f", "Sara": "f", "Clara": "f", "Lea": "f", "Maria": "f",
    "Tom": "m", "Ben": "m", "Luis": "m", "Felix": "m", "Marc": "m", "Hugo": "m",
}  # fmt: skip
