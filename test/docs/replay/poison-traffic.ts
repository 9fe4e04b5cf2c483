import { createRandom } from '../../support/harness/random.ts'
import { sqliteStorage } from './sqlite-storage.ts'

/** The part of a reservoir that is used. Its module has the types of Workers, so it is imported without them. */
interface Store {
  migrate(): Promise<void>
  offer(offers: readonly object[]): Promise<void>
  take(request: object): { text: string; sources: { keyId: string }[] }[]
  stats(): { reviewSamples: number }
}
type Place = (seed: string, offer: { text: string }) => Promise<{ priority: number }>
const SAMPLING = '../../../gateway/src/adaptation/sampling'
const { ReservoirStore } = (await import(`${SAMPLING}/reservoir-store.ts`)) as {
  ReservoirStore: new (storage: object, options: object) => Store
}
const { placeSample } = (await import(`${SAMPLING}/sample-placement.ts`)) as { placeSample: Place }

/** Sequences, of 512 tokens, that a mask is calibrated on. */
export const SAMPLES = 16
/** Characters that an update takes of a domain. */
const MAX_CHARACTERS = SAMPLES * 512 * 4 * 1.25
/** Keys of ordinary traffic, and characters of each of their requests. */
const HONEST_KEYS = 14
const REQUEST_CHARACTERS = 600

/** Kinds of text that a key sends to spoil a domain. */
export type Poison = 'random tokens' | 'one repeated text' | '16 KB texts'

/** Who sends the poison: one key 30 % of the requests, or ten keys a tenth of that together. */
export type Sender = 'one key' | 'ten keys'

/** Returns the ordinary requests of the domain: its text, in the order in which it is written. */
export function ordinaryTexts(text: string): string[] {
  return Array.from({ length: Math.floor(text.length / REQUEST_CHARACTERS) }, (_, index) =>
    text.slice(index * REQUEST_CHARACTERS, (index + 1) * REQUEST_CHARACTERS).trim(),
  )
}

/** Returns the number of poisoned requests that are 30 % of all requests, or a tenth of that. */
export function poisonCount(ordinary: number, sender: Sender): number {
  const all = Math.round((ordinary * 0.3) / 0.7)
  return sender === 'one key' ? all : Math.round(all / 10)
}

/** A request with the dense loss of its text. */
export interface Request {
  keyId: string
  text: string
  nllMean: number | undefined
}

/** Gives each request a key: the ordinary ones by turns. */
export function assignKeys(
  ordinary: readonly Omit<Request, 'keyId'>[],
  poison: readonly Omit<Request, 'keyId'>[],
  sender: Sender,
): Request[] {
  return [
    ...ordinary.map((request, index) => ({ ...request, keyId: `key ${index % HONEST_KEYS}` })),
    ...poison.map((request, index) => ({
      ...request,
      keyId: sender === 'one key' ? 'poison' : `poison ${index % 10}`,
    })),
  ]
}

/** Returns the texts that an update takes of the reservoir, after the requests were offered to it. */
export async function takenTexts(
  requests: readonly Request[],
  seed: string,
): Promise<{ texts: Request[]; review: number }> {
  const store = new ReservoirStore(sqliteStorage(), {
    pool: { texts: 2_048, characters: 4 * 1024 * 1024 },
    holdout: { texts: 512, characters: 128 * 1024 },
    sourcesPerText: 16,
    timeToLiveMs: 1e9,
    rememberOffersMs: 1e9,
    seed,
    nowMs: () => 1e6,
  })
  await store.migrate()
  await store.offer(requests.map(toOffer))
  const update = {
    model: 'm',
    updateId: 'u',
    maxCharacters: MAX_CHARACTERS,
    maxKeyShare: 0.1,
    outlierDeviations: 6,
  }
  const texts = store.take(update).map(({ text, sources }) => ({
    text,
    keyId: sources[0]?.keyId ?? '',
    nllMean: undefined,
  }))
  return { texts, review: store.stats().reviewSamples }
}

/** Returns the texts that the version before took: whole texts by their lots, whoever sent them, each text once. */
export async function takenBefore(requests: readonly Request[], seed: string): Promise<Request[]> {
  const unique = [...new Map(requests.map((request) => [request.text, request])).values()]
  const placed = await Promise.all(
    unique.map(async (request) => ({ request, place: await placeSample(seed, { text: request.text }) })),
  )
  const texts: Request[] = []
  let characters = 0
  for (const { request } of placed.sort((a, b) => a.place.priority - b.place.priority)) {
    if (characters >= MAX_CHARACTERS) break
    texts.push(request)
    characters += request.text.length
  }
  return texts
}

/** Returns the share of poisoned characters. */
export function poisonShare(texts: readonly Request[]): number {
  const sum = (part: readonly Request[]) => part.reduce((all, { text }) => all + text.length, 0)
  return sum(texts.filter(({ keyId }) => keyId.startsWith('poison'))) / sum(texts)
}

/** Returns poisoned texts; `words` are the strings of random tokens, and `foreign` is text of another kind. */
export function poisonTexts(
  kind: Poison,
  count: number,
  words: readonly string[],
  foreign: string,
): string[] {
  const random = createRandom(20)
  const pick = () => words[Math.floor(random() * words.length)] ?? ''
  return Array.from({ length: count }, () => {
    if (kind === 'one repeated text')
      return 'Buy the best watches now at the lowest price! '.repeat(13).trim()
    if (kind === 'random tokens') return Array.from({ length: 140 }, pick).join('').trim()
    const from = Math.floor(random() * (foreign.length - 16 * 1024))
    return foreign.slice(from, from + 16 * 1024)
  })
}

function toOffer({ keyId, text, nllMean }: Request, index: number): object {
  return {
    requestId: `request ${index}`,
    keyId,
    tenant: 'tenant',
    conversation: `conversation ${index}`,
    consentVersion: 1,
    side: 'pool',
    text,
    atMs: 1e6,
    nllMean,
  }
}
