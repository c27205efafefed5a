import { expect, it } from "vitest";
import type { ask } from "../src/api";
import { parseEdit } from "../src/edits";
import { Problem } from "../src/problem";
import { Talk } from "../src/talk.svelte";
import type { Message } from "../src/types";

const edits = [parseEdit("feature:3=2max")!];

it("a talk goes on from its own answers, plain and edited", async () => {
  const heard: Message[][] = [];
  const talk = new Talk(async (messages, edits, show) => {
    heard.push(messages);
    show(edits.length ? "a bridge" : "a model");
  });
  await talk.send("who?", edits);
  await talk.send("why?", edits);
  expect(heard[3]!.map((message) => message.content)).toEqual(["who?", "a bridge", "why?"]);
  expect(talk.turns.map((turn) => turn.plain)).toEqual(["a model", "a model"]);
  expect(talk.turns.map((turn) => turn.edited)).toEqual(["a bridge", "a bridge"]);
  expect([talk.question, talk.waiting]).toEqual(["", false]);
});

const until = (signal: AbortSignal) =>
  new Promise<void>((_, fail) => signal.addEventListener("abort", () => fail(new DOMException("", "AbortError"))));

it("an answer that is stopped stays as far as it came, and is no error", async () => {
  const talk = new Talk((async (_, __, show, signal) => {
    show("I am");
    await until(signal);
  }) as typeof ask);
  const sent = talk.send("who?", edits);
  await Promise.resolve();
  expect(talk.waiting).toBe(true);
  talk.stop();
  await sent;
  expect(talk.turns).toEqual([{ question: "who?", plain: "I am", edited: "I am", edits, problem: "" }]);
  expect([talk.waiting, talk.question]).toEqual([false, ""]);
});

it("a question that fails is back in its box, and the other answer is given up", async () => {
  let gaveUp = false;
  const talk = new Talk((async (_, edits, __, signal) => {
    if (edits.length) throw new Problem("too far", false);
    await until(signal).catch(() => (gaveUp = true));
  }) as typeof ask);
  await talk.send("who?", edits);
  await Promise.resolve();
  expect([talk.turns[0]!.problem, talk.question, talk.waiting, gaveUp]).toEqual(["too far", "who?", false, true]);
});
