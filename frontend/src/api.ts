// Calls to the server, with the types that it publishes.
import type { components } from "./wire";

type Wire = components["schemas"];
export type IndexInfo = Wire["IndexInfo"];
export type FeatureList = Wire["FeatureList"];
export type FeatureRow = Wire["FeatureRow"];
export type FeatureView = Wire["FeatureView"];
export type ExampleView = Wire["ExampleView"];
export type PictureView = Wire["PictureView"];
export type Message = Wire["Message"];
export type Edit = Wire["EditView"];
export type ReadingView = Wire["ReadingView"];
export type On = Wire["AskReading"]["on"] & string;
export type By = "top" | "interval" | "random";
export type Sort = "number" | "density" | "maximum";

class Problem extends Error {}

function readProblem(text: string): string | undefined {
  try {
    return (JSON.parse(text) as Wire["Problem"]).error;
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

export async function ask(messages: Message[], edits: Edit[], max_new_tokens = 60): Promise<string> {
  return (await post<{ answer: string }>("api/answer", { messages, edits, max_new_tokens })).answer;
}
