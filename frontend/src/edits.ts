// Edits as people write them, such as feature:311=10max@answer. Python reads and prints the same text
// (sonde/steering/edits.py); tests/grammar.json holds the two together.
import type { Edit } from "./types";

type Kind = "feature" | "features" | "vector" | "neuron";
const UNITS: Record<Kind, string[]> = {
  feature: ["raw", "max"],
  features: ["raw", "max"],
  vector: ["raw", "norm"],
  neuron: ["raw"],
};
const SIGNS = { clamp: "=", ablate: "=", add: "+=", scale: "*=" } as const;
export const NUMBER = "[-+]?(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][-+]?[0-9]+)?";
const EDIT = new RegExp(`^([a-z]+):(.+?) *(=|\\+=|\\*=) *(${NUMBER}) *([a-z]*)(?:@([a-z]+))?$`);
const NUMBERS = /^ *[0-9]+ *(, *[0-9]+ *)*$/;

export function parseEdit(text: string): Edit | null {
  const [, kind = "", target = "", sign = "", digits, unit = "", where = "all"] = EDIT.exec(text.trim()) ?? [];
  const value = Number(digits) + 0; // without the sign of zero
  const op = sign === "+=" ? "add" : sign === "*=" ? "scale" : value === 0 ? "ablate" : "clamp";
  const named = parseTarget(kind, target);
  if (!named || !Number.isFinite(value) || !["all", "prompt", "answer"].includes(where)) return null;
  if (!UNITS[kind as Kind].includes(unit || "raw") || (op === "scale" && unit && unit !== "raw")) return null;
  const kept = (op === "ablate" ? "raw" : unit || "raw") as Edit["unit"];
  return { op, ...named, value, unit: kept, where: where as Edit["where"] };
}

function parseTarget(kind: string, text: string): Partial<Edit> | null {
  if (kind === "vector") return /^(?! ).*[^+* ]$/.test(text) ? { vector: text } : null;
  if (kind === "neuron") return /^.+\/[0-9]+$/.test(text) ? { neuron: text } : null;
  if (!(kind === "feature" || kind === "features") || !NUMBERS.test(text)) return null;
  const features = text.split(",").map(Number);
  if (features.length === 1) return { feature: features[0]! };
  return kind === "features" && new Set(features).size === features.length ? { features } : null;
}

// The target as text, such as feature:311.
export function formatTarget(edit: Edit): string {
  if (typeof edit.feature === "number") return `feature:${edit.feature}`;
  if (edit.features?.length) return `features:${edit.features.join(",")}`;
  return edit.vector ? `vector:${edit.vector}` : `neuron:${edit.neuron}`;
}

export function formatEdit(edit: Edit): string {
  const value = edit.op === "ablate" ? 0 : (edit.value ?? 0);
  const unit = edit.unit && edit.unit !== "raw" && !(value === 0 && edit.op === "clamp") ? edit.unit : "";
  const where = edit.where && edit.where !== "all" ? `@${edit.where}` : "";
  return `${formatTarget(edit)}${SIGNS[edit.op]}${value}${unit}${where}`;
}

// Edits as they can be shown: those that can be read, and the first of each target.
export function distinctEdits(texts: string[]): { edits: Edit[]; wrong: string[] } {
  const found = new Map<string, Edit>();
  const wrong: string[] = [];
  for (const text of texts) {
    const edit = parseEdit(text);
    if (!edit || found.has(formatTarget(edit))) wrong.push(text);
    else found.set(formatTarget(edit), edit);
  }
  return { edits: [...found.values()], wrong };
}
