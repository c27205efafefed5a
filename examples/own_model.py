"""Features of a model of your own: any folder or hub name that transformers can load, and any text.

    python examples/own_model.py gpt2 corpus.txt

Text is a .txt file (documents between blank lines), a .jsonl file (field `text`), or a folder of them; a few million
tokens are a good start.
"""

import sys

import sonde

name, text = sys.argv[1:3]
model = sonde.load_model(name)
sonde.show(model)

# The places that can be read: the stream after each layer is a good first choice, in the middle of the model.
streams = [site for site in model.sites() if site.startswith("layers.") and site.endswith(".residual")]
site = streams[len(streams) // 2]
store = sonde.harvest(model, text, site=site, out="own/activations")

# Sixteen features for each dimension of the stream, 32 of them active on a token.
dictionary = sonde.train(store, kind="batchtopk", n_features=16 * store.width, k=32, out="own/dictionary")
quality = sonde.measure(dictionary, model=model)  # on documents that training never saw
print(f"features explain {1 - quality.fvu:.0%} of the variance at {site}, with {quality.l0:.0f} active on a token")

index = sonde.index(model, dictionary, text, out="own/index")
sonde.show(index)
for feature in sorted(index.where(density=(1e-5, 1e-2)), key=lambda feature: -feature.maximum)[:5]:
    print(feature)

# What fires on a text, and what fires on it that does not on another.
reader = sonde.Reader(index, model)
sonde.show(reader.read("The old bridge stands over the river."))
sonde.show(reader.search("The old bridge stands over the river.", unlike="The dog runs through the wood.", n=5))
