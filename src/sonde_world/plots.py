"""The results of the benchmark of truth as a self-contained page of plots: SVG in HTML."""

from collections.abc import Sequence
from html import escape
from typing import Any

from sonde_world.bench import mean_of, percent
from sonde_world.steer import CONDUCTS

WIDE, HIGH = 620, 180
LEFT, BOTTOM = 44, 40
COLOURS = {
    "auc": "#c2541b",
    "few": "#e3a06b",
    "neurons": "#5b7d8f",
    "pca": "#93b0a0",
    "random": "#b8b2a6",
    "probe": "#22201c",
}
NAMES = {
    "auc": "best feature",
    "few": "best four features",
    "neurons": "best neuron",
    "pca": "best component",
    "random": "best random direction",
    "probe": "linear probe",
}
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#22201c;background:#fbfaf7;
max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.05rem;margin:2rem 0 .3rem}
svg{max-width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#6d675d}
table{border-collapse:collapse}td,th{padding:.25rem .9rem .25rem 0;text-align:left;border-bottom:1px solid #e3ded3}
.plots{display:flex;flex-wrap:wrap;gap:2rem}p{max-width:46rem}.soft{color:#6d675d}
"""


def bench_page(found: dict[str, Any]) -> str:
    """The page of one dictionary's benchmark, as HTML."""
    told, about = found["recovery"], found["dictionary"]
    decades = [_decade(row) + f" ({row['concepts']})" for row in told["by_decade"]]
    completeness = {way: [row[way] or 0.0 for row in told["by_decade"]] for way in COLOURS}
    intervals = [f"{row['from']:.1f} to {row['to']:.1f}" for row in found["purity"]]
    purity = {name: [row[name] or 0.0 for row in found["purity"]] for name in ("precision", "recall")}
    languages = list(found["transfer"]["median"])
    steered: dict[str, dict[float, list[float]]] = {}
    for row in found["steering"]["landmarks"]:
        for dose in sorted({tried["dose"] for tried in row.get("by_dose", ())}):
            shares = [tried["share"] for tried in row["by_dose"] if tried["dose"] == dose]
            steered.setdefault(row["way"], {}).setdefault(dose, []).append(max(shares))
    doses = sorted({dose for by in steered.values() for dose in by})
    curves = {way: [mean_of(by.get(dose, ())) for dose in doses] for way, by in steered.items()}
    best = sorted(told["concepts"], key=lambda row: -row["auc"])
    plots = [
        (
            "Concepts found, by how often they occur",
            "share with an area of at least 0.95 under the ROC curve",
            _bars(decades, completeness),
        ),
        (
            "How pure the chosen features are",
            "medians over concepts, by activation in units of the maximum",
            _bars(intervals, purity),
        ),
        (
            "Chosen on English, judged in each language",
            "median area under the ROC curve",
            _bars(languages, {"auc": [found["transfer"]["median"][language] or 0 for language in languages]}),
        ),
        (
            "Steering",
            "share of answers that name the landmark and are language, by dose, on all tokens or on the prompt's, "
            "whichever does more; mean over landmarks",
            _lines(doses, curves),
        ),
    ]
    figures = "".join(
        f"<div><h2>{escape(title)}</h2><p class='soft'>{escape(says)}</p>{drawing}</div>"
        for title, says, drawing in plots
    )
    recovery = [[NAMES[way], percent(told["found"][way]), format(told["median"][way], ".3f")] for way in COLOURS]
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>The benchmark of truth</title><style>{STYLE}</style><h1>The benchmark of truth</h1>"
        f"<p>{escape(about['kind'])}, {about['n_features']:,} features at {escape(about['site'])}, "
        f"{about['l0']:.1f} active on a token; judged on {found['tokens']:,} tokens of the built-in world, of which "
        f"every concept is known.</p>{_table(['', 'concepts found', 'median area'], recovery)}"
        f"<div class='plots'>{figures}</div><h2>Causes</h2>{_causes(found['causes'], found['pictures'])}"
        f"<h2>Concepts that are told best and worst</h2>{_concepts([*best[:15], *best[-15:]])}</html>\n"
    )


def _decade(row: dict[str, Any]) -> str:
    return f"{row['from']:.0e} to {row['to']:.0e}".replace("e-0", "e-")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + f"</tr>{cells}</table>"


def _concepts(rows: Sequence[dict[str, Any]]) -> str:
    formats = {
        "concept": "",
        "frequency": ".5f",
        "feature": "",
        "auc": ".3f",
        "f1": ".2f",
        "neurons": ".3f",
        "probe": ".3f",
    }
    shown = [[format(row[name], spec) for name, spec in formats.items()] for row in rows]
    return _table(["concept", "share of tokens", "feature", "area", "F1", "best neuron", "probe"], shown)


def _causes(found: dict[str, Any], pictures: dict[str, Any] | None) -> str:
    ablation, swap = found["ablation"], found["swap of states"]
    rows = [
        [
            "facts of a landmark that stay right with its features ablated",
            percent(mean_of(row["own_kept"] for row in ablation["landmarks"])),
        ],
        ["facts of others that stay right", percent(mean_of(row["others_kept"] for row in ablation["landmarks"]))],
        ["another state's feature brings its capital", percent(swap["share"])],
    ]
    for name in CONDUCTS:
        if name in found:
            one = found[name]
            rows.append(
                [f"{name} (plainly, where it should not be)", percent(one["plain"]["shown where it should not"])]
            )
            rows.append([f"{name}, with its feature turned up", percent(one["turned up, shown"])])
            rows.append(
                [f"the opposite of {name}, with its feature turned down", percent(one["turned down, the opposite"])]
            )
    if pictures:
        rows.append(
            [
                "concepts whose English feature tells their pictures (area at least .9), by patches",
                percent(pictures["found"]["patches"]),
            ]
        )
        rows.append(["the same with what follows the picture", percent(pictures["found"]["with what follows"])])
    return _table(["", ""], rows)


def _frame(body: str, names: Sequence[str], colours: Sequence[str], labels: Sequence[tuple[float, str]]) -> str:
    ticks = "".join(
        f"<line x1='{LEFT}' x2='{WIDE}' y1='{_y(at)}' y2='{_y(at)}' stroke='#e3ded3'/>"
        f"<text x='{LEFT - 6}' y='{_y(at) + 4}' text-anchor='end'>{at:g}</text>"
        for at in (0, 0.25, 0.5, 0.75, 1)
    )
    below = "".join(
        f"<text x='{x:.1f}' y='{HIGH + 16}' text-anchor='middle'>{escape(label)}</text>" for x, label in labels
    )
    key = "".join(
        f"<rect x='{LEFT + 190 * (place % 3)}' y='{HIGH + 26 + 17 * (place // 3)}' width='10' height='10' "
        f"fill='{colour}'/>"
        f"<text x='{LEFT + 14 + 190 * (place % 3)}' y='{HIGH + 35 + 17 * (place // 3)}'>{escape(name)}</text>"
        for place, (name, colour) in enumerate(zip(names, colours, strict=True))
    )
    high = HIGH + BOTTOM + 17 * ((len(names) - 1) // 3)
    return f"<svg viewBox='0 0 {WIDE} {high}' width='{WIDE}' role='img'>{ticks}{body}{below}{key}</svg>"


def _y(share: float) -> float:
    return 8 + (HIGH - 8) * (1 - share)


def _bars(groups: Sequence[str], values: dict[str, list[float]]) -> str:
    colours = [COLOURS.get(name, colour) for name, colour in zip(values, ("#c2541b", "#5b7d8f") * 3, strict=False)]
    room = (WIDE - LEFT) / max(1, len(groups))
    wide = 0.8 * room / len(values)
    body = "".join(
        f"<rect x='{LEFT + room * group + 0.1 * room + wide * place:.1f}' y='{_y(share):.1f}' width='{wide:.1f}' "
        f"height='{HIGH - _y(share):.1f}' fill='{colour}'><title>{share:.3f}</title></rect>"
        for place, (own, colour) in enumerate(zip(values.values(), colours, strict=True))
        for group, share in enumerate(own)
    )
    labels = [(LEFT + room * (group + 0.5), name) for group, name in enumerate(groups)]
    return _frame(body, [NAMES.get(name, name) for name in values], colours, labels)


def _lines(x: Sequence[float], values: dict[str, list[float | None]]) -> str:
    """A line for each of `values`, over those of x where it has any."""
    colours = ["#c2541b", "#e3a06b", "#5b7d8f", "#b8b2a6"][: len(values)]
    across = [LEFT + 10 + (WIDE - LEFT - 20) * place / max(1, len(x) - 1) for place in range(len(x))]
    body = ""
    for shares, colour in zip(values.values(), colours, strict=True):
        known = [(at, share) for at, share in zip(across, shares, strict=True) if share is not None]
        points = " ".join(f"{at:.1f},{_y(share):.1f}" for at, share in known)
        body += f"<polyline fill='none' stroke='{colour}' stroke-width='2' points='{points}'/>"
    return _frame(body, list(values), colours, [(at, f"{dose:g}") for at, dose in zip(across, x, strict=True)])
