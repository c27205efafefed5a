// Answers that arrive as they are written, as server-sent events of OpenAI's protocol, and errors of both protocols.
import { Problem } from "./problem";

type Chunk = { choices: { delta: { content?: string } }[] };

// The message of an error that the server sent, in its own shape or OpenAI's; undefined where the text is none.
export function errorMessage(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: string | { message: string } };
    return typeof error === "string" ? error : error?.message;
  } catch {
    return undefined;
  }
}

// The answer so far, after each event.
export async function* readAnswer(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [answer, rest] = ["", ""];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const problem = errorMessage(data);
      if (problem) throw new Problem(problem, false);
      for (const choice of (JSON.parse(data) as Chunk).choices) answer += choice.delta.content ?? "";
      yield answer;
    }
  }
}
