"""Neurons, splitting, completeness and the map say what brute force says, and find what was planted."""

import shutil

import numpy as np
import pytest
import torch

import sonde
from sonde.analysis.completeness import completeness
from sonde.analysis.neurons import neurons
from sonde.analysis.splitting import splitting
from sonde.errors import ArtifactMismatchError, ArtifactMissingError
from tests.known import known
from tests.labels.planted import WORDS, make_index


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return sonde.Reader(make_index(tmp_path_factory.mktemp("planted")), device="cpu")


def test_correlations_with_neurons_equal_numpy(walk, tmp_path):
    reader = sonde.Reader(shutil.copytree(walk.index, tmp_path / "i"), device="cpu")
    assert reader.index.neurons is None
    with pytest.raises(ArtifactMissingError, match="sonde neurons"):
        reader.index.where(neuron=(0.3, 1))
    report = neurons(reader, tokens=3000)
    assert np.array_equal(known(reader.index.neurons).correlation, report.correlation)
    like = {feature.number for feature in reader.index.where(neuron=(0.3, 1))}
    assert like == set(np.flatnonzero(np.abs(report.correlation) >= 0.3).tolist())
    values, fires, n = {}, [], 0
    everything = ["layers.0.neurons", "layers.1.neurons", "layers.1.residual"]
    assert list(report.sites) == everything
    from sonde.activations.shuffle import mix

    documents = reader.index.facts.documents
    for number in np.argsort(mix(np.arange(documents, dtype=np.uint64) + np.uint64(1)), kind="stable"):
        text = reader.index.document(int(number))[0]
        with torch.no_grad():
            found = reader.model.read(text, everything)
        for site in everything:
            values.setdefault(site, []).append(found[site][0, 1:].flatten(1))
        fires.append(reader.dictionary.encode(found["layers.1.residual"][0, 1:]).detach())
        n += len(fires[-1])
        if n >= report.tokens:
            break
    assert n == report.tokens
    dense = torch.cat(fires).numpy()
    every = np.concatenate([torch.cat(values[site]).numpy() for site in everything], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.nan_to_num(np.corrcoef(dense.T, every.T)[: dense.shape[1], dense.shape[1] :])
    np.testing.assert_allclose(np.abs(report.correlation), np.abs(expected).max(axis=1), atol=2e-3)
    offsets = dict(
        zip(everything, np.cumsum([0, *(torch.cat(values[s]).shape[1] for s in everything[:-1])]), strict=True)
    )
    for feature in np.flatnonzero(np.abs(report.correlation) > 0.1)[:20]:
        column = offsets[report.sites[report.site[feature]]] + report.neuron[feature]
        assert expected[feature, column] == pytest.approx(report.correlation[feature], abs=2e-3)
    assert 0 <= report.share_unlike <= 1


def test_splitting_finds_a_planted_hierarchy(tmp_path):
    """Two broad features, each divided by the larger dictionary into two; and one that is new."""
    from safetensors.numpy import save_file

    from sonde.artifacts import new_artifact
    from sonde.dictionaries.l1 import L1
    from sonde.dictionaries.load import save_dictionary
    from sonde.facts import ModelRef
    from sonde.features.folder import IndexFacts
    from sonde.features.index import load_index
    from sonde.manifests import parent_entry

    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
    small, large = (
        basis[:2],
        np.stack([basis[0] + basis[2], basis[0] - basis[2], basis[1] + basis[3], basis[1] - basis[3], basis[5]]),
    )
    fires_small = {token: [token % 2] for token in range(400)}
    fires_large = {
        token: [2 * (token % 2) + (token // 2) % 2] + ([4] if token % 7 == 0 else []) for token in range(400)
    }

    def make(name, rows, fires):
        facts = IndexFacts(
            n_features=len(rows),
            tokens=400,
            documents=4,
            activations=400,
            dead=0.0,
            l0=1.0,
            site="s",
            model=ModelRef("m", "m"),
        )
        dictionary = L1(len(rows), 8)
        dictionary.W_dec.data.copy_(torch.from_numpy(rows))
        parent = parent_entry(*save_dictionary(dictionary, tmp_path / f"{name}-dictionary"))
        with new_artifact(tmp_path / name, format="index", settings={}, parents={"dictionary": parent}) as draft:
            features = np.array([feature for token in range(400) for feature in fires[token]], dtype=np.uint32)
            offsets = np.cumsum([0, *(len(fires[token]) for token in range(400))])
            count = np.bincount(features, minlength=len(rows))
            coactive = {"tokens": np.arange(400), "offsets": offsets, "features": features, "count": count}
            save_file(coactive, draft.folder / "coactive.safetensors")
            ones = np.ones(len(rows), dtype=np.float32)
            save_file(
                {"count": count, "density": count / 400, "maximum": ones, "mean": ones},
                draft.folder / "features.safetensors",
            )
            draft.finish(["coactive.safetensors", "features.safetensors"], facts.to_json())
        return load_index(tmp_path / name)

    found = splitting(make("small", small, fires_small), make("large", large, fires_large))
    assert {
        parent: sorted(child.feature.number for child in children) for parent, children in found.children.items()
    } == {0: [0, 1], 1: [2, 3]}
    assert found.n_split == 2 and found.n_orphans == 1
    for children in found.children.values():
        for child in children:
            assert child.cosine == pytest.approx(2**-0.5, abs=1e-5) and child.contained == 1.0


def test_indexes_of_different_texts_are_refused(walk, tmp_path):
    other = sonde.index(None, walk.topk, ["one more text"], out=tmp_path / "i", device="cpu")
    with pytest.raises(ArtifactMismatchError, match="differ in tokens"):
        splitting(sonde.load_index(walk.index), other)


def test_completeness_finds_the_planted_concepts_and_no_others(planted):
    found = completeness(planted, [*WORDS, "elephant", "market"])
    present = {presence.concept: presence.feature for presence in found.presences}
    assert {concept: feature.number for concept, feature in present.items() if feature} == {
        w: n for n, w in enumerate(WORDS)
    }
    assert present["market"] is None and found.share == len(WORDS) / (len(WORDS) + 1)
    frequency = {presence.concept: presence.frequency for presence in found.presences}
    assert frequency["elephant"] == 0 and frequency["market"] > frequency["river"] > 0
    assert frequency["river"] == pytest.approx(1e6 * 25 / (300 * 30), rel=0.01)
    assert found.slope < 0  # here the most frequent one has none


def test_a_map_puts_what_is_alike_together(planted, walk, tmp_path):
    pytest.importorskip("umap")
    from sonde.analysis.layout import feature_map
    from sonde.errors import UsageError
    from sonde.features.index import load_index

    with pytest.raises(UsageError, match="only 6 features fire"):
        feature_map([planted.index])
    index = load_index(shutil.copytree(walk.index, tmp_path / "i"))
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 16)
    centres = rng.normal(size=(4, index.directions.shape[1]))
    index.__dict__["directions"] = (centres[groups] + 0.1 * rng.normal(size=index.directions.shape)).astype(np.float32)
    [made] = feature_map([index])
    fires = index.statistics["count"] > 0
    assert np.isfinite(made.position[fires]).all() and np.isnan(made.position[~fires]).all()
    assert len(set(zip(groups[fires], made.cluster[fires], strict=True))) == len(made.names) == 4
    again = load_index(tmp_path / "i").map
    assert (known(again).position[fires] == made.position[fires]).all() and known(again).names == made.names
    [same] = feature_map([index])
    assert np.array_equal(same.position, made.position, equal_nan=True)
