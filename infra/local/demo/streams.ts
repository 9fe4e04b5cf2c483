import { setTimeout as sleep } from 'node:timers/promises'
import type OpenAI from 'openai'

/** One streamed response as its client saw it. */
export interface StreamedResponse {
  /** Each `system_fingerprint` of its chunks; more than one would mean that masks were mixed. */
  fingerprints: string[]
  characters: number
  error: string | undefined
}

/** The requests of streaming clients. */
export interface StreamedTraffic {
  model: string
  /** Left out, the service finds it. */
  domain?: string
  prompts: readonly string[]
}

/** Clients that keep streaming until they are stopped. */
export interface RunningStreams {
  /** From now on all clients stream, without a pause. */
  speedUp(): void
  responses(): readonly StreamedResponse[]
  /** Starts no further stream and waits for the running ones. */
  stop(): Promise<readonly StreamedResponse[]>
}

/**
 * Streams completions that may be sampled through the public API: one client that pauses `readingMs` between two
 * responses, and after {@link RunningStreams.speedUp} `clients` of them without a pause.
 */
export function keepStreaming(
  client: OpenAI,
  traffic: StreamedTraffic,
  options: { clients: number; readingMs: number },
): RunningStreams {
  const { clients, readingMs } = options
  const responses: StreamedResponse[] = []
  const spedUp = new AbortController()
  let running = true
  let started = 0
  const worker = async () => {
    while (running) {
      responses.push(await streamOnce(client, traffic, started++))
      await sleep(readingMs, undefined, { signal: spedUp.signal }).catch(() => undefined)
    }
  }
  const workers = [worker()]
  const speedUp = () => {
    if (spedUp.signal.aborted) return
    spedUp.abort()
    while (running && workers.length < clients) workers.push(worker())
  }
  return {
    responses: () => responses,
    speedUp,
    async stop() {
      running = false
      spedUp.abort()
      await Promise.all(workers)
      return responses
    },
  }
}

async function streamOnce(
  client: OpenAI,
  { model, domain, prompts }: StreamedTraffic,
  index: number,
): Promise<StreamedResponse> {
  const fingerprints = new Set<string>()
  let characters = 0
  try {
    const prompt = prompts[index % prompts.length] ?? ''
    const stream = await client.completions.create(
      { model, prompt, max_tokens: 48, temperature: 0.8, stream: true },
      {
        headers: { 'x-copal-sample': 'true', ...(domain === undefined ? {} : { 'x-copal-domain': domain }) },
      },
    )
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

/** Describes finished streams for people: how many failed, and which masks they saw. */
export function summariseStreams(streamed: readonly StreamedResponse[]): string {
  const perMask = new Map<string, number>()
  for (const { fingerprints } of streamed) {
    for (const name of fingerprints) perMask.set(name, (perMask.get(name) ?? 0) + 1)
  }
  const masks = [...perMask]
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([name, count]) => `${count} from ${name.replace(/^.*-/, '')}`)
  const failed = streamed.filter(({ error }) => error !== undefined)
  const mixed = streamed.filter(({ fingerprints }) => fingerprints.length > 1).length
  const first = failed[0]?.error
  return `${streamed.length} finished, ${failed.length} failed${first ? ` (${first})` : ''}, ${mixed} mixed two masks; ${masks.join(', ')}`
}
