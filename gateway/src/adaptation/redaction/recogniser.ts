import { AppError } from '@copal/shared/errors.ts'
import { recogniserResponse } from '@copal/shared/wire/recogniser.ts'
import type { RecognisedSpan, Recogniser } from '../../contracts/recogniser.ts'
import { collectBytes } from '../../runtime/collect-bytes.ts'

/** How long a call may take. A sample whose call fails is tried again by the queue. */
const TIMEOUT_MS = 10_000
/** Maximum texts and characters of a call, unless one text alone has more. */
const MAX_TEXTS = 32
const MAX_CHARACTERS = 128 * 1024
const MAX_RESPONSE_BYTES = 1024 * 1024

/** The endpoint of a recogniser. */
interface Endpoint {
  url: URL
  /** Sent as bearer token. */
  token?: string | undefined
}

/** Creates the client of a recogniser: `POST {"texts": […]}` to its endpoint, which never sees text that is not redacted. */
export function createRecogniser(
  endpoint: Endpoint,
  send: (url: URL, init: RequestInit) => Promise<Response> = (url, init) => fetch(url, init),
): Recogniser {
  return async (texts) => {
    const spans: RecognisedSpan[][] = []
    for (const batch of batches(texts)) spans.push(...(await recogniseBatch(endpoint, send, batch)))
    return spans
  }
}

/** Parses the address of a recogniser; undefined for one that is neither https nor on this machine. */
export function recogniserUrl(address: string): URL | undefined {
  const url = URL.canParse(address) ? new URL(address) : undefined
  const isLocal = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(url?.hostname ?? '')
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && isLocal)
  return isSafe && url.username === '' && url.password === '' ? url : undefined
}

function* batches(texts: readonly string[]): Generator<string[]> {
  let batch: string[] = []
  let characters = 0
  for (const text of texts) {
    if (batch.length === MAX_TEXTS || (batch.length > 0 && characters + text.length > MAX_CHARACTERS)) {
      yield batch
      batch = []
      characters = 0
    }
    batch.push(text)
    characters += text.length
  }
  if (batch.length > 0) yield batch
}

async function recogniseBatch(
  { url, token }: Endpoint,
  send: (url: URL, init: RequestInit) => Promise<Response>,
  texts: readonly string[],
): Promise<RecognisedSpan[][]> {
  const answer = await callEndpoint(send, url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    },
    body: JSON.stringify({ texts }),
    redirect: 'manual',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  const { data } = recogniserResponse.safeParse(answer)
  if (data?.spans.length !== texts.length) throw failed('its response is not one list of spans for each text')
  return texts.map((text, index) => toUtf16(text, data.spans[index] ?? []))
}

/** @throws AppError `service_unavailable`, which never quotes the response: it may quote a text */
async function callEndpoint(
  send: (url: URL, init: RequestInit) => Promise<Response>,
  url: URL,
  init: RequestInit,
): Promise<unknown> {
  try {
    const response = await send(url, init)
    if (!response.ok || response.body === null) {
      await response.body?.cancel()
      throw failed(`its status is ${response.status}`)
    }
    const { bytes, cut } = await collectBytes(response.body, MAX_RESPONSE_BYTES)
    if (cut) throw failed(`its response is larger than ${MAX_RESPONSE_BYTES} bytes`)
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch (error) {
    if (error instanceof AppError) throw error
    const name = error instanceof Error ? error.name : 'unknown'
    throw failed(
      name === 'TimeoutError' ? `it took longer than ${TIMEOUT_MS} ms` : `the call failed (${name})`,
    )
  }
}

function failed(why: string): AppError {
  return new AppError(
    'service_unavailable',
    `The recogniser at COPAL_RECOGNISER_URL cannot be used: ${why}. Texts are not stored without it.`,
  )
}

/** Converts spans in code points, joined where they overlap, to UTF-16 code units. */
function toUtf16(text: string, spans: readonly RecognisedSpan[]): RecognisedSpan[] {
  const starts: number[] = []
  let at = 0
  for (const character of text) {
    starts.push(at)
    at += character.length
  }
  starts.push(text.length)
  const converted: RecognisedSpan[] = []
  for (const { start, end, label } of spans.toSorted((a, b) => a.start - b.start || b.end - a.end)) {
    const [from, to] = [starts[start], starts[end]]
    if (from === undefined || to === undefined || from >= to) throw failed('a span is outside of its text')
    const last = converted.at(-1)
    if (last !== undefined && from < last.end) last.end = Math.max(last.end, to)
    else converted.push({ start: from, end: to, label })
  }
  return converted
}
