// Calls to the server, with the types that it publishes.
import type { components } from "./wire";

type Wire = components["schemas"];
export type IndexInfo = Wire["IndexInfo"];
export type FeatureList = Wire["FeatureList"];
export type FeatureRow = Wire["FeatureRow"];
export type FeatureView = Wire["FeatureView"];
export type ExampleView = Wire["ExampleView"];
export type PictureView = Wire["PictureView"];
export type Preset = Wire["Preset"];
export type Message = { role: "system" | "user" | "assistant"; content: string };
export type Edit = Wire["EditView"];
export type ReadingView = Wire["ReadingView"];
export type On = Wire["AskReading"]["on"] & string;
export type By = "top" | "interval" | "random";
export type Sort = "number" | "density" | "maximum";

class Problem extends Error {}

function readProblem(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: string | { message: string } };
    return typeof error === "string" ? error : error?.message;
  } catch {
    return undefined;
  }
}

async function call<T>(path: string, init?: RequestInit): Promise<T> {
  try {
    const response = await fetch(path, init);
    const text = await response.text();
    if (response.ok) return JSON.parse(text) as T;
    throw new Problem(readProblem(text) ?? `The server answered ${response.status}.`);
  } catch (error) {
    if (error instanceof Problem) throw error;
    // A request that was given up, also while its body was read, is no fault of anybody.
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is sonde still running?");
  }
}

export const getIndex = () => call<IndexInfo>("api/index");

export function getFeatures(query: string, sort: Sort, offset: number, limit: number, signal?: AbortSignal) {
  const parameters = new URLSearchParams({ query, sort, offset: String(offset), limit: String(limit) });
  return call<FeatureList>(`api/features?${parameters}`, { signal: signal ?? null });
}

export const getFeature = (number: number, by: By = "top") => call<FeatureView>(`api/features/${number}?by=${by}`);

export function readText(text: string, unlike: string, on: On, signal: AbortSignal): Promise<ReadingView> {
  const headers = { "Content-Type": "application/json" };
  return call<ReadingView>("api/read", { method: "POST", headers, body: JSON.stringify({ text, unlike, on }), signal });
}

function post<T>(path: string, body: object): Promise<T> {
  return call<T>(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export const sayLabel = (number: number, text: string) => post<Wire["LabelView"]>(`api/features/${number}/label`, { text });
export const addNote = (number: number, text: string) => post<string[]>(`api/features/${number}/note`, { text });

export const pictureAddress = (document: number, number: number) => `api/pictures/${document}/${number}`;

export const getPresets = () => call<Preset[]>("api/presets");
export const savePreset = (name: string, edits: string[]) => post<Preset[]>("api/presets", { name, edits });

// A conversation's answer, as it is written: `tell` gets all that has been said so far. Greedy, so that the same question has the same answer.
export async function ask(messages: Message[], edits: Edit[], tell: (answer: string) => void, max_tokens = 60): Promise<void> {
  const body = JSON.stringify({ messages, edits, max_tokens, temperature: 0, stream: true });
  const response = await fetch("v1/chat/completions", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  if (!response?.body) throw new Error("The server does not answer. Is sonde still running?");
  if (!response.ok) throw new Error(readProblem(await response.text()) ?? `The server answered ${response.status}.`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [answer, rest] = ["", ""];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const problem = readProblem(data);
      if (problem) throw new Error(problem);
      for (const choice of (JSON.parse(data) as { choices: { delta: { content?: string } }[] }).choices) answer += choice.delta.content ?? "";
      tell(answer);
    }
  }
}
