import { setTimeout as sleep } from 'node:timers/promises'
import type OpenAI from 'openai'

/** One streamed answer as its client saw it. */
export interface StreamedAnswer {
  /** Every `system_fingerprint` among its chunks: one, unless two masks were mixed. */
  fingerprints: string[]
  characters: number
  error: string | undefined
}

/** Streams that clients keep running until they are told to stop. */
export interface RunningStreams {
  /** From now on all clients ask, each again at once. */
  hurry(): void
  answers(): readonly StreamedAnswer[]
  /** Starts no further stream and waits for those that run. */
  stop(): Promise<readonly StreamedAnswer[]>
}

/**
 * Streams completions through the public API: one client, which reads `readingMs` between two answers, and after
 * {@link RunningStreams.hurry} `clients` of them without a pause.
 */
export function keepStreaming(
  client: OpenAI,
  model: string,
  prompts: readonly string[],
  options: { clients: number; readingMs: number },
): RunningStreams {
  const { clients, readingMs } = options
  const answers: StreamedAnswer[] = []
  const hurried = new AbortController()
  let running = true
  let asked = 0
  const worker = async () => {
    while (running) {
      answers.push(await streamOnce(client, model, prompts[asked++ % prompts.length] ?? ''))
      await sleep(readingMs, undefined, { signal: hurried.signal }).catch(() => undefined)
    }
  }
  const workers = [worker()]
  const hurry = () => {
    if (hurried.signal.aborted) return
    hurried.abort()
    while (running && workers.length < clients) workers.push(worker())
  }
  return {
    answers: () => answers,
    hurry,
    async stop() {
      running = false
      hurried.abort()
      await Promise.all(workers)
      return answers
    },
  }
}

async function streamOnce(client: OpenAI, model: string, prompt: string): Promise<StreamedAnswer> {
  const fingerprints = new Set<string>()
  let characters = 0
  try {
    const stream = await client.completions.create({
      model,
      prompt,
      max_tokens: 48,
      temperature: 0.8,
      stream: true,
    })
    for await (const chunk of stream) {
      characters += chunk.choices[0]?.text.length ?? 0
      if (chunk.system_fingerprint) fingerprints.add(chunk.system_fingerprint)
    }
    return { fingerprints: [...fingerprints], characters, error: undefined }
  } catch (error) {
    return {
      fingerprints: [...fingerprints],
      characters,
      error: error instanceof Error ? error.message : String(error),
    }
  }
}
