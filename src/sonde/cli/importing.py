"""sonde import"""

from pathlib import Path

from sonde.activations.settings import StoreFormat
from sonde.cli.common import print_json, reporter


def import_vectors(
    vectors: Path,
    /,
    *,
    site: str,
    out: Path,
    model: str = "",
    store: StoreFormat = "bfloat16",
    massive: float = 0.0,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Make activations of vectors that were harvested elsewhere.

    Example: sonde import vectors.npy --site layers.6.residual --model gpt2 --out acts

    Parameters
    ----------
    vectors: Path
        A .npy matrix [row, width], a .safetensors file with one, or a folder of SAELens' cached activations.
    site: str
        The site of the model that they are from, as sonde sites lists it.
    out: Path
        Folder to write, or a URL on an object store (s3://, gs://, az://).
    model: str
        Folder or hub name of the model that they are from; needed to measure and to index.
    store: str
        Number format of the vectors on disk.
    massive: float
        Leave out rows whose norm is above this many times the median (massive activations), such as 10; 0 keeps them.
    seed: int
        Decides the shuffle.
    json: bool
        Print one JSON object.
    """
    from sonde.activations.ready import from_vectors

    shown = reporter()
    imported = from_vectors(
        vectors, site=site, out=out, model=model, store=store, massive=massive, seed=seed, reporter=shown
    )
    if json:
        print_json({"folder": str(imported.folder), "id": imported.manifest.id} | imported.manifest.facts)
    else:
        print(f"{imported.folder}: {imported.n_rows:,} rows at {imported.site} ({imported.width})")
