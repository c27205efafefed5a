"""Are features neurons? The correlation of each with every neuron of the model's MLPs up to its site, and with the basis there.

Source: Templeton et al. 2024, "Scaling Monosemanticity", features vs. neurons: 82 % of features had none above 0.3.
"""

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from sonde.activations.contexts import Cutter, batches, make_batch
from sonde.activations.shuffle import mix
from sonde.dictionaries.reading import split_site
from sonde.features.added import NEURONS, Neurons
from sonde.features.reader import Reader
from sonde.manifests import write_bytes, write_json
from sonde.progress import Reporter, Silent

TOKENS = 1 << 14
FEATURES_AT_ONCE = 1 << 11


@torch.no_grad()
def neurons(reader: Reader, *, tokens: int = TOKENS, seed: int = 0, reporter: Reporter | None = None) -> Neurons:
    """Correlate each feature of an index with every neuron up to its site, and every dimension there, on tokens of its own text; kept beside the index.

    Args:
        tokens: about how many, from documents chosen by a keyed hash.
    """
    index, model, dictionary = reader.index, reader.model, reader.dictionary
    own = [site for site in dictionary.reads if split_site(site)[0] == 1]
    names = model.sites()
    last = max(names.index(split_site(site)[1]) for site in own)
    wanted = [name for name in names[: last + 1] if name.endswith(".neurons")] + [split_site(site)[1] for site in own]
    cutter, parts, values = Cutter(model), [], {site: [] for site in wanted}
    n_documents = index.manifest.facts["documents"]
    with np.errstate(over="ignore"):
        shuffled = np.argsort(mix(np.arange(n_documents, dtype=np.uint64) + np.uint64(seed + 1)), kind="stable")
    n = 0
    with (reporter or Silent()).start("neurons", tokens, "tokens") as progress:
        for first in range(0, n_documents, 64):
            texts = [index.document(int(number))[0] for number in shuffled[first : first + 64]]
            for group in batches(list(cutter.contexts(cutter.tokenize(texts))), 8192):
                batch = make_batch(model, group)
                found = model.read(batch.tokens, wanted)
                for site in wanted:
                    values[site].append(found[site].flatten(2)[batch.text_mask].float())
                x = torch.cat([found[split_site(site)[1]].flatten(2)[batch.text_mask].float() for site in own], dim=1)
                row, feature, value = dictionary.active(x.to(dictionary.W_enc))
                parts.append((row + n, feature, value))
                n += len(x)
                progress.advance(len(x))
            if n >= tokens:
                break
    row, feature, value = (torch.cat(column) for column in zip(*parts, strict=True))
    best = torch.zeros(dictionary.n_features)
    where = torch.zeros(dictionary.n_features, dtype=torch.int64)
    which = torch.zeros(dictionary.n_features, dtype=torch.int64)
    for number, site in enumerate(wanted):
        neuron = _standard(torch.cat(values.pop(site)))
        for start in range(0, dictionary.n_features, FEATURES_AT_ONCE):
            end = min(start + FEATURES_AT_ONCE, dictionary.n_features)
            mine = (feature >= start) & (feature < end)
            dense = torch.zeros(n, end - start, device=value.device)
            dense[row[mine], feature[mine].long() - start] = value[mine].float()
            correlation = (_standard(dense).T @ neuron).cpu() / n
            most, place = correlation.abs().max(dim=1)
            better = most > best[start:end].abs()
            best[start:end][better] = correlation.gather(1, place[:, None])[:, 0][better]
            where[start:end][better], which[start:end][better] = number, place[better]
    arrays = {"correlation": best.numpy(), "site": where.numpy(), "neuron": which.numpy()}
    write_json((index.folder / NEURONS).with_suffix(".json"), {"sites": wanted, "tokens": n})
    write_bytes(index.folder / NEURONS, save(arrays))
    return Neurons(**arrays, sites=tuple(wanted), tokens=n)


def _standard(values: Tensor) -> Tensor:
    """Columns of mean zero and variance one; constant ones are zero."""
    values = values - values.mean(dim=0)
    spread = values.square().mean(dim=0).sqrt()
    return values / spread.clamp_min(1e-12) * (spread > 1e-6)
