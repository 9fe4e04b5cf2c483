/** Reads the server-sent events of a streamed chat completion. */
import type { ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import { ApiError } from '../../data/client.ts'

/** A token with its surprise. */
export interface StreamToken {
  text: string
  /** Negative log-probability, nats; `undefined` for text without logprobs. */
  surprise: number | undefined
}

/** One event of a stream. */
export type StreamEvent =
  | { kind: 'tokens'; tokens: StreamToken[]; maskVersion: number | undefined }
  | { kind: 'finish'; reason: string }
  | { kind: 'usage'; usage: Usage }
  | { kind: 'error'; message: string }
  | { kind: 'done' }

/**
 * Cuts a stream of text into events.
 *
 * Feed it the text as it comes; it keeps what does not end with an empty line yet, and the bytes of a character that goes on in
 * the next token.
 */
export class EventReader {
  #rest = ''
  readonly #decoder = new TextDecoder()

  /** Returns the events that are complete with this text. */
  read(text: string): StreamEvent[] {
    const parts = (this.#rest + text).replaceAll('\r\n', '\n').split('\n\n')
    this.#rest = parts.pop() ?? ''
    return parts.flatMap((block) => this.#eventsOf(block))
  }

  #eventsOf(block: string): StreamEvent[] {
    const lines = block.split('\n')
    const data = lines
      .filter((line) => line.startsWith('data:'))
      .map((line) => line.slice(5).trimStart())
      .join('\n')
    if (data === '') return []
    if (data === '[DONE]') return [{ kind: 'done' }]
    const parsed: unknown = JSON.parse(data)
    const message = errorMessageOf(parsed)
    if (message !== undefined) return [{ kind: 'error', message }]
    return this.#chunkEvents(parsed as ChatCompletionChunk)
  }

  #chunkEvents({ choices, usage, system_fingerprint: fingerprint }: ChatCompletionChunk): StreamEvent[] {
    const [choice] = choices
    const events: StreamEvent[] = []
    if (choice) {
      const scored = choice.logprobs?.content ?? []
      const text = choice.delta.content ?? ''
      const tokens =
        scored.length > 0
          ? scored.map((token) => ({ text: this.#textOf(token), surprise: -token.logprob }))
          : text === ''
            ? []
            : [{ text, surprise: undefined }]
      if (tokens.length > 0) events.push({ kind: 'tokens', tokens, maskVersion: versionOf(fingerprint) })
      if (choice.finish_reason !== null) events.push({ kind: 'finish', reason: choice.finish_reason })
    }
    if (usage) events.push({ kind: 'usage', usage })
    return events
  }

  /** A token that ends within a character has no text of its own, but its bytes; the token that ends it gets the character. */
  #textOf({ token, bytes }: { token: string; bytes: readonly number[] }): string {
    return bytes.length === 0 ? token : this.#decoder.decode(Uint8Array.from(bytes), { stream: true })
  }
}

/**
 * Reads a streamed response to its end.
 *
 * @throws ApiError when it ends without its last event or the event of an error: it broke off
 */
export async function readStream(response: Response, onEvent: (event: StreamEvent) => void): Promise<void> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  const events = new EventReader()
  let hasEnded = false
  for (let chunk = await reader?.read(); chunk !== undefined && !chunk.done; chunk = await reader?.read())
    for (const event of events.read(chunk.value)) {
      hasEnded ||= event.kind === 'done' || event.kind === 'error'
      onEvent(event)
    }
  if (!hasEnded) throw new ApiError('The answer broke off before its end.', 0, 'unreachable')
}

function errorMessageOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('error' in value)) return undefined
  const { error } = value
  return typeof error === 'object' && error !== null && 'message' in error
    ? String(error.message)
    : 'The stream broke off.'
}

/** The mask version in a fingerprint, `copal-<model>-m<version>`; 0 is dense. */
function versionOf(fingerprint: string | undefined): number | undefined {
  const version = /-m(\d+)$/.exec(fingerprint ?? '')?.[1]
  return version === undefined ? undefined : Number(version)
}
