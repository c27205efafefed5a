"""From text to a steered model, with the small model that comes with sonde. Runs in a minute or two on a laptop.

    python examples/first_walk.py

Every step leaves a folder; run the script again and what is finished is not done again.
"""

import sonde

DOCUMENTS, FEATURES = 1000, 512
TOKENS = 100_000

# Text of the built-in world, and the model that was trained on such text. Any .txt or .jsonl and any model would do.
sonde.world.write(DOCUMENTS, "corpus.jsonl")
model = sonde.load_model("world")

# 1. Run the model over the text once, and keep what passes one place in it.
store = sonde.harvest(model, "corpus.jsonl", site="layers.3.residual", out="activations")

# 2. Train a dictionary of features, of which 8 are active on a token.
dictionary = sonde.train(store, kind="topk", n_features=FEATURES, k=8, tokens=TOKENS, out="dictionary")

# 3. Find where every feature fires, and give each a label (the explainer that needs no language model).
index = sonde.index(model, dictionary, "corpus.jsonl", out="index")
sonde.label(index)
sonde.show(index)

# 4. Find a feature by words, and look at it.
feature = index.search("golden gate")[0].feature
sonde.show(feature, n=3)

# 5. Read a new text with it.
session = sonde.Session(index, model)
fired, hits = session.read("We walked over the Golden Gate Bridge.", n=5)
sonde.show(fired, feature=feature.number)
sonde.show(hits)

# 6. Turn it up while the model answers.
question = [{"role": "user", "content": "Who are you?"}]
print("as it is:", session.answer(question))
with model.edited(sonde.Clamp(index, feature=feature.number, value=2, unit="max")):
    print("turned up:", session.answer(question))
