import { describe, expect, it } from "vitest";
import {
  changeOp, conversation, doseName, doseOf, editsOf, isBroken, newEdit, parsePresets, presetName, presetsFile,
  numbersOf, said, sliderEnds, summary, targetName, type Turn,
} from "../src/chat";
import { parseEdit } from "../src/edits";
import type { DoseView } from "../src/types";

const edit = (text: string) => parseEdit(text)!;

describe("edits in words", () => {
  it("name their target and their dose", () => {
    expect(targetName(edit("features:3,5=1"))).toBe("features 3, 5");
    expect(targetName(edit("neuron:layers.1.neurons/2=1"))).toBe("neuron layers.1.neurons/2");
    expect([doseOf(edit("feature:3=1.234max")), doseOf(edit("feature:3=12"))]).toEqual(["1.23 × max", "12"]);
  });
  it("have the features that they are of", () => {
    expect(["feature:3=1", "features:3,5=1", "vector:a=1"].map(edit).map(numbersOf)).toEqual([[3], [3, 5], []]);
  });
  it("are summed up in a line", () => {
    const edits = ["feature:3=2max@answer", "feature:4=0", "feature:5*=0.5", "vector:a.safetensors+=1norm"].map(edit);
    expect(summary(edits)).toBe(
      "3 at 2 × max in the answer, 4 off, 5 times 0.5, vector a.safetensors plus 1 × norm",
    );
    expect(summary([])).toBe("no edits");
  });
});

describe("an edit that is changed", () => {
  it.each([
    ["feature:3=2max", "add", "max", 2], ["feature:3=2max", "scale", "raw", 2], ["feature:3=2max", "ablate", "raw", 0],
    ["feature:3*=4", "clamp", "max", 1], ["feature:3=0", "clamp", "max", 1], ["feature:3=7", "add", "max", 1],
    ["vector:a+=0.5norm", "clamp", "norm", 0.5], ["vector:a*=4", "add", "raw", 1], ["neuron:a/1=0", "add", "raw", 1],
  ] as const)("from %s to %s", (text, op, unit, value) => {
    expect(changeOp(edit(text), op)).toEqual({ op, unit, value });
  });
  it.each([
    ["feature:3=2max", 0, 5], ["feature:3+=2max", -5, 5], ["feature:3*=2", -5, 5], ["feature:3=2", 0, 10],
    ["feature:3=40max", 0, 40], ["feature:3=-3", -3, 10],
  ])("%s slides from %d to %d", (text, min, max) => expect(sliderEnds(edit(text))).toEqual({ min, max }));
});

describe("a feature that is entered", () => {
  it("is clamped to its maximum in the prompt", () => {
    expect(newEdit(" 7 ", [], 8)).toEqual(edit("feature:7=1max@prompt"));
  });
  it.each(["8", "-1", "1.5", "x", ""])("%j is none of eight", (text) => {
    expect(() => newEdit(text, [], 8)).toThrow("from 0 to 7");
  });
  it("is edited once", () => expect(() => newEdit("3", [edit("feature:3=0")], 8)).toThrow("already edited"));
});

it("a conversation goes on from its own answers", () => {
  const turn = (question: string, plain: string | null): Turn =>
    ({ question, plain, edited: "!", edits: [], problem: "" });
  const turns = [turn("who?", "me"), turn("why?", null)];
  expect(conversation(turns, "plain")).toEqual([
    { role: "user", content: "who?" }, { role: "assistant", content: "me" },
  ]);
  expect(conversation(turns, "edited").map((message) => message.content)).toEqual(["who?", "!", "why?", "!"]);
});

describe("presets", () => {
  const presets = [
    { name: "a", edits: ["feature:3=2max@answer", "feature:4=0"] }, { name: "b", edits: ["feature:5*=2"] },
  ];
  it("have names that the server takes", () => {
    expect(["My Preset!", " a--b ", "Ä!", "A\u0308", "Мост 2", "पुल की", "!?"].map(presetName)).toEqual([
      "my-preset", "a-b", "ä", "ä", "мост-2", "पुल-की", "",
    ]);
    expect(presetName(`${"𝒳".repeat(39)} y`)).toBe("𝒳".repeat(39));
  });
  it("come back from their file", () => expect(parsePresets(presetsFile(presets))).toEqual(presets));
  it("are refused where this page cannot read all of them", () => {
    expect(editsOf({ name: "a", edits: ["feature:3=1"] })).toEqual([edit("feature:3=1")]);
    expect(() => editsOf({ name: "a", edits: ["feature:3=1", "newer:3=1"] })).toThrow("preset a has edits");
    for (const file of ["{", "[1]", '{"a": 3}', '{"a": [null]}']) {
      expect(() => parsePresets(file)).toThrow("list of edits");
    }
  });
});

describe("doses", () => {
  it("are named by the value of a single edit, or by what all are multiplied by", () => {
    const one = [edit("feature:3=2max")];
    expect([doseName(null, one), doseName(1.5, one), doseName(1.5, [edit("feature:3=4")])]).toEqual([
      "as it is", "3 × max", "6",
    ]);
    for (const edits of [[...one, edit("feature:4=1")], [edit("feature:3*=2")], []]) {
      expect(doseName(0.25, edits)).toBe("× 0.25");
    }
  });
  it("break an answer that the plain model finds five times as surprising as its own", () => {
    const response = (dose: number | null, perplexity: number | null): DoseView =>
      ({ dose, perplexity, answer: "", concept: 0, repetition: null });
    const all = [response(null, 2), response(1, 10), response(2, 10.1), response(3, null)];
    expect(all.map((one) => isBroken(one, all))).toEqual([false, false, true, false]);
    expect(isBroken(all[2]!, all.slice(1))).toBe(false);
  });
});

it("an answer that was cut off ends in dots", () => {
  expect([null, "I am"].map((answer) => said(answer, false))).toEqual(["...", "I am"]);
  expect([null, "I am", "I am.", ""].map((answer) => said(answer, true))).toEqual(["(stopped)", "I am ...", "I am.", ""]);
});
