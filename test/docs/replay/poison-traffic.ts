import { shuffle } from '../../../gpu-node/src/platform/seeded-random.ts'
import { createRandom } from '../../support/harness/random.ts'
import { sqliteStorage } from './sqlite-storage.ts'

/** The parts of a reservoir that are used. Their modules have the types of Workers, so they are imported without them. */
interface Store {
  migrate(): Promise<void>
  offer(offers: readonly object[]): Promise<void>
  drawable(request: object): object[]
  take(request: object): { text: string; sources: { keyId: string }[] }[]
  stats(): { reviewSamples: number }
}
interface Descriptions {
  textsWithoutLoss(drawn: readonly object[], request: object): { hash: string; text: string }[]
  storeDescriptions(descriptions: readonly object[], bases: readonly string[], isPoolOnly: boolean): void
}
const SAMPLING = '../../../gateway/src/adaptation/sampling'
const { ReservoirStore } = (await import(`${SAMPLING}/reservoir-store.ts`)) as {
  ReservoirStore: new (storage: object, options: object) => Store
}
const { ReservoirDescriptions } = (await import(`${SAMPLING}/reservoir-descriptions.ts`)) as {
  ReservoirDescriptions: new (storage: object) => Descriptions
}

/** Sequences, of 512 tokens, that a mask is calibrated on. */
export const SAMPLES = 16
/** Bytes that an update takes of a domain. */
const MAX_BYTES = SAMPLES * 512 * 4 * 1.25
/** Requests of ordinary traffic, the keys that send them, and characters of each request. */
const ORDINARY_REQUESTS = 280
const HONEST_KEYS = 14
const REQUEST_CHARACTERS = 600
/** Texts of unknown loss that an update has described. */
const MAX_DESCRIBED = 512
/** Characters of a long text. */
const LONG_CHARACTERS = 16 * 1024

/** Kinds of text that a key sends to spoil a domain. */
export const POISONS = [
  'random tokens',
  'one repeated text',
  '16 KB texts',
  'shuffled words',
  'source code',
  'another language',
  'another script',
] as const
export type Poison = (typeof POISONS)[number]

/** Who sends the poison: one key 30 % of the requests, or ten keys a tenth of that together. */
export type Sender = 'one key' | 'ten keys'

/** What poisoned texts are made of. */
export interface PoisonSources {
  /** The strings of tokens. */
  tokens: readonly string[]
  /** Text of the domain. */
  domain: string
  /** Prose of another kind. */
  prose: string
  code: string
  language: string
  script: string
}

/** Returns the ordinary requests of the domain that one draw of its traffic has. */
export function ordinaryTexts(text: string, draw: number): string[] {
  const all = Array.from({ length: Math.floor(text.length / REQUEST_CHARACTERS) }, (_, index) =>
    text.slice(index * REQUEST_CHARACTERS, (index + 1) * REQUEST_CHARACTERS).trim(),
  )
  return shuffle(all, createRandom(draw)).slice(0, ORDINARY_REQUESTS)
}

/** Returns the number of poisoned requests that are 30 % of all requests, or a tenth of that. */
export function poisonCount(sender: Sender): number {
  const all = Math.round((ORDINARY_REQUESTS * 0.3) / 0.7)
  return sender === 'one key' ? all : Math.round(all / 10)
}

/** A text and the key that sent it. */
export interface Request {
  keyId: string
  text: string
}

/** Gives each text a key: the ordinary ones by turns. */
export function assignKeys(
  ordinary: readonly string[],
  poison: readonly string[],
  sender: Sender,
): Request[] {
  return [
    ...ordinary.map((text, index) => ({ text, keyId: `key ${index % HONEST_KEYS}` })),
    ...poison.map((text, index) => ({
      text,
      keyId: sender === 'one key' ? 'poison' : `poison ${index % 10}`,
    })),
  ]
}

/** Returns the mean dense loss of each text. */
export type DescribeTexts = (texts: readonly string[]) => Promise<number[]>

/**
 * Offers requests to a reservoir, and returns the texts that an update then takes from it. As in the step `collect`, the
 * texts that the update would take are described first.
 */
export async function takenTexts(
  requests: readonly Request[],
  seed: string,
  describe: DescribeTexts,
): Promise<{ texts: Request[]; review: number }> {
  const storage = sqliteStorage()
  const store = new ReservoirStore(storage, {
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
    maxBytes: MAX_BYTES,
    maxKeyShare: 0.1,
    outlierDeviations: 6,
    baseSha256: 'dense',
  }
  const descriptions = new ReservoirDescriptions(storage)
  for (let left = MAX_DESCRIBED; left > 0;) {
    const texts = descriptions.textsWithoutLoss(store.drawable(update), { ...update, limit: left })
    if (texts.length === 0) break
    left -= texts.length
    const losses = await describe(texts.map(({ text }) => text))
    descriptions.storeDescriptions(
      texts.map(({ hash }, index) => ({
        hash,
        baseSha256: update.baseSha256,
        tokens: 128,
        embedding: [],
        nllMean: losses[index],
      })),
      [update.baseSha256],
      true,
    )
  }
  const texts = store.take(update).map(({ text, sources }) => ({ text, keyId: sources[0]?.keyId ?? '' }))
  return { texts, review: store.stats().reviewSamples }
}

/** Returns the share of the poison in texts, by a measure of a text. */
export function poisonShare(texts: readonly Request[], measure: (text: string) => number): number {
  const sum = (part: readonly Request[]) => part.reduce((all, { text }) => all + measure(text), 0)
  return sum(texts.filter(({ keyId }) => keyId.startsWith('poison'))) / sum(texts)
}

/** Returns poisoned texts. */
export function poisonTexts(kind: Poison, sender: Sender, sources: PoisonSources): string[] {
  const random = createRandom(20)
  const excerpt = (text: string, characters: number) => {
    const from = Math.floor(random() * (text.length - characters))
    return text.slice(from, from + characters).trim()
  }
  const texts: Record<Poison, () => string> = {
    'random tokens': () =>
      Array.from({ length: 140 }, () => sources.tokens[Math.floor(random() * sources.tokens.length)] ?? '')
        .join('')
        .trim(),
    'one repeated text': () => 'Buy the best watches now at the lowest price! '.repeat(13).trim(),
    '16 KB texts': () => excerpt(sources.prose, LONG_CHARACTERS),
    'shuffled words': () =>
      shuffle(excerpt(sources.domain, REQUEST_CHARACTERS).split(/\s+/u), random).join(' '),
    'source code': () => excerpt(sources.code, LONG_CHARACTERS),
    'another language': () => excerpt(sources.language, LONG_CHARACTERS),
    'another script': () => excerpt(sources.script, LONG_CHARACTERS),
  }
  return Array.from({ length: poisonCount(sender) }, texts[kind])
}

function toOffer({ keyId, text }: Request, index: number): object {
  return {
    requestId: `request ${index}`,
    keyId,
    tenant: 'tenant',
    conversation: `conversation ${index}`,
    consentVersion: 1,
    side: 'pool',
    text,
    atMs: 1e6,
  }
}
