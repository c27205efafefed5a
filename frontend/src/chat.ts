// A conversation under edits: how edits are shown and changed, what has been said, and presets as a file.
import { distinctEdits, formatEdit, formatTarget } from "./edits";
import { rounded, significant } from "./format";
import type { DoseView, Edit, Message, Preset } from "./types";

export type Turn = { question: string; plain: string | null; edited: string | null; edits: Edit[]; problem: string };
type Setting = Pick<Edit, "op" | "unit" | "value">;

const BROKEN = 5; // times the plain answer's perplexity: beyond it, an answer is no longer language
const [STRONGEST, STRONGEST_RAW] = [5, 10]; // ends of sliders, in multiples and in activation
const LONGEST_NAME = 40; // of a preset, in letters
const VERBS = { clamp: "at", add: "plus", scale: "times", ablate: "off" } as const;

const inUnit = (value: string, unit: Edit["unit"]) => (unit === "raw" ? value : `${value} × ${unit}`);

export const targetName = (edit: Edit) => formatTarget(edit).replace(":", " ").replaceAll(",", ", ");
// The features that an edit is of; none of a vector or a neuron.
export const numbersOf = ({ feature, features }: Edit): number[] =>
  features ?? (typeof feature === "number" ? [feature] : []);
export const doseOf = ({ value, unit }: Setting) => inUnit(rounded(value ?? 0, 2), unit);

export function summary(edits: Edit[]): string {
  const parts = edits.map((edit) => {
    const dose = edit.op === "ablate" ? "" : ` ${doseOf(edit)}`;
    const where = edit.where === "all" ? "" : ` in the ${edit.where}`;
    return `${edit.feature ?? targetName(edit)} ${VERBS[edit.op]}${dose}${where}`;
  });
  return parts.join(", ") || "no edits";
}

// An edit with another operation: its dose is kept where it means the same there.
export function changeOp(edit: Edit, op: Edit["op"]): Setting {
  if (op === "scale") return { op, unit: "raw", value: 2 };
  if (op === "ablate") return { op, unit: "raw", value: 0 };
  if (edit.unit !== "raw" && edit.op !== "ablate") return { op, unit: edit.unit, value: edit.value };
  return { op, unit: edit.vector || edit.neuron ? "raw" : "max", value: 1 };
}

export function sliderEnds({ op, unit, value = 0 }: Edit): { min: number; max: number } {
  const strongest = unit !== "raw" || op === "scale" ? STRONGEST : STRONGEST_RAW;
  return { min: Math.min(op === "clamp" ? 0 : -STRONGEST, value), max: Math.max(strongest, value) };
}

// A first edit of the feature whose number was entered; throws what is wrong with it.
export function newEdit(entered: string, edits: Edit[], n_features: number): Edit {
  const feature = Number(entered);
  if (!/^\d+$/.test(entered.trim()) || feature >= n_features) {
    throw new Error(`Enter a feature from 0 to ${n_features - 1}.`);
  }
  if (edits.some((edit) => edit.feature === feature)) throw new Error(`Feature ${feature} is already edited.`);
  return firstEdit(feature);
}

// Where turning a feature begins: at its maximum and in the prompt alone. What is written then stays language in most
// models, while an edit of every token that is written soon ends in one word again and again.
export const firstEdit = (feature: number): Edit => ({ op: "clamp", feature, value: 1, unit: "max", where: "prompt" });

// The conversation so far, with the plain answers or with those under edits; questions without an answer are left out.
export const conversation = (turns: Turn[], which: "plain" | "edited"): Message[] =>
  turns.flatMap(({ question, [which]: answer }): Message[] =>
    answer === null ? [] : [{ role: "user", content: question }, { role: "assistant", content: answer }],
  );

// An answer as it is shown: dots stand for what is still to come, or was cut off at the longest answer or by a person.
export function said(answer: string | null, isDone: boolean): string {
  if (answer === null) return isDone ? "(stopped)" : "...";
  return isDone && answer && /[\p{L}\p{N},]$/u.test(answer) ? `${answer} ...` : answer;
}

// The edits of a preset; throws where this page cannot read all of them, as half of a preset is another one.
export function editsOf({ name, edits }: Preset): Edit[] {
  const { edits: found, wrong } = distinctEdits(edits);
  if (wrong.length) throw new Error(`The preset ${name} has edits that this page cannot read: ${wrong.join(", ")}.`);
  return found;
}

// A name as the server takes it (check_name in Python): small letters of any script with their marks, digits, hyphens.
export function presetName(text: string): string {
  const small = text.normalize("NFC").toLowerCase().normalize("NFC");
  const name = small.replace(/[^\p{L}\p{N}\p{M}]+/gu, "-").replace(/^[-\p{M}]+/u, "");
  return [...name].slice(0, LONGEST_NAME).join("").replace(/-+$/, "");
}
export const presetsFile = (presets: Preset[]) =>
  JSON.stringify(Object.fromEntries(presets.map((preset) => [preset.name, editsOf(preset)])), null, 2);
export function parsePresets(file: string): Preset[] {
  try {
    return Object.entries(JSON.parse(file) as Record<string, Edit[]>).map(([name, edits]) =>
      ({ name, edits: edits.map(formatEdit) }),
    );
  } catch {
    throw new Error("it does not hold names with a list of edits each, as \"Save as a file\" writes them");
  }
}

// A dose by what it makes of the edits: the value of a single one, or what all are multiplied by.
export function doseName(dose: number | null, edits: Edit[]): string {
  if (dose === null) return "as it is";
  const [edit, ...others] = edits;
  if (!edit || others.length || edit.op === "scale" || edit.op === "ablate") return `× ${significant(dose)}`;
  return inUnit(significant(dose * (edit.value ?? 0)), edit.unit);
}

// Whether the plain model finds an answer far more surprising than its own, which is the one without a dose.
export function isBroken({ perplexity }: DoseView, responses: DoseView[]): boolean {
  const plain = responses.find((response) => response.dose === null)?.perplexity ?? null;
  return plain !== null && perplexity !== null && perplexity > BROKEN * plain;
}
