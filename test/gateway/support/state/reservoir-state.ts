import { env } from 'cloudflare:workers'
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import {
  ReservoirStore,
  type ReservoirOptions,
} from '../../../../gateway/src/adaptation/sampling/reservoir-store.ts'

/** Options of a small reservoir whose clock stands at 100 ms. */
export const SMALL_RESERVOIR: ReservoirOptions = {
  pool: { texts: 10, characters: 10_000 },
  holdout: { texts: 5, characters: 10_000 },
  sourcesPerText: 4,
  timeToLiveMs: 1_000,
  rememberOffersMs: 1_000_000,
  seed: 'seed',
  nowMs: () => 100,
}

const TABLES = [
  'texts',
  'sources',
  'taken',
  'parts',
  'sides',
  'offered',
  'deletions',
  'facts',
  'thresholds',
  'descriptions',
]

type Open = (options?: Partial<ReservoirOptions>) => ReservoirStore

/** Runs `use` on a small reservoir, in the storage of an otherwise empty Durable Object. */
export async function withStore<T>(
  name: string,
  use: (open: Open, storage: DurableObjectStorage) => Promise<T>,
): Promise<T> {
  const stub = env.RESERVOIR.get(env.RESERVOIR.idFromName(`store ${name}`))
  return runInDurableObject(stub, async (_instance, { storage }) => {
    for (const table of TABLES) storage.sql.exec(`DROP TABLE IF EXISTS ${table}`)
    return use((options = {}) => new ReservoirStore(storage, { ...SMALL_RESERVOIR, ...options }), storage)
  })
}

/** Returns all texts of a domain, sorted, without taking any. */
export async function storedTexts(domain: string): Promise<string[]> {
  const reservoir = env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
  return runInDurableObject(reservoir, (_instance, { storage }) =>
    storage.sql
      .exec<{ text: string }>('SELECT text FROM texts ORDER BY text')
      .toArray()
      .map(({ text }) => text),
  )
}

/** Has the reservoir of a domain write its counts to D1 now, as its alarm does within a minute of a change. */
export async function publishCounts(domain: string): Promise<void> {
  const reservoir = env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
  await runInDurableObject(reservoir, (_instance, { storage }) => {
    storage.sql.exec(`UPDATE facts SET value = 1 WHERE name = 'counts_due_ms'`)
  })
  await runDurableObjectAlarm(reservoir)
}

/** Returns the texts of the pool without taking them. */
export function poolOf(store: ReservoirStore, maxBytes = Infinity): string[] {
  const texts = store.take({ model: 'looking', updateId: 'look', maxBytes }).map(({ text }) => text)
  store.release('looking', ['look'])
  return texts
}

/** Returns the held-out texts; they are remembered as held out from then on. */
export function holdoutOf(store: ReservoirStore): string[] {
  return store.holdout(Infinity).map(({ text }) => text)
}
