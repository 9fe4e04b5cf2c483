import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CallBudget } from '../../contracts/call-budget.ts'
import type { ModelCounts, ReservoirCounts, ReservoirStats } from '../../contracts/reservoir-counts.ts'
import { listReservoirCounts, putReservoirCounts } from '../../storage/db/queries/reservoir-count-queries.ts'

type CountDeps = Pick<Deps, 'db' | 'reservoir'>

/** Reservoirs that a request or a task asks at most: as many as an update has domains. */
export const MAX_ASKED = 64
/** Reservoirs that are asked at once. */
const MAX_AT_ONCE = 16

/**
 * Returns how many reservoirs a task asks at most, so that its calls are enough.
 *
 * @param callsEach calls that it may make of each
 */
export function askedWithin({ left }: CallBudget, callsEach: number): number {
  return Math.min(MAX_ASKED, Math.floor(left / callsEach))
}

/** The counts of a domain for a model. */
export interface DomainStats extends ReservoirStats {
  /** When they were counted, Unix milliseconds; undefined: just now, by the reservoir; null: not yet, so all are 0. */
  countedAtMs: number | null | undefined
  /** What an update of the model would take, where D1 says so. */
  draw: ModelCounts['draw']
}

/** For which model to count, and how many reservoirs may be asked. */
export interface CountRequest {
  /** Texts that this model has taken do not count as new; undefined: all texts count. */
  model?: string | undefined
  maxAsked?: number
}

/**
 * Returns the counts of domains. Up to `maxAsked` reservoirs are asked. Of more domains the counts in D1 are returned, which are
 * at most a minute old, and only reservoirs are asked that have none there, as far as `maxAsked` goes.
 */
export async function domainStats(
  deps: CountDeps,
  names: readonly string[],
  { model, maxAsked = MAX_ASKED }: CountRequest = {},
): Promise<Map<string, DomainStats>> {
  if (names.length > maxAsked) {
    const stored = await storedCounts(deps, names, maxAsked)
    return new Map(names.map((name) => [name, statsOf(stored.get(name), model)]))
  }
  const asked = await askEach(names, async (name): Promise<[string, DomainStats]> => {
    const stats = await deps.reservoir(name).stats(model)
    return [name, { ...stats, countedAtMs: undefined, draw: undefined }]
  })
  return new Map(asked)
}

/** Returns the counts of domains that are in D1, and has up to `maxAsked` reservoirs counted that have none there. */
export async function storedCounts(
  deps: CountDeps,
  names: readonly string[],
  maxAsked: number = MAX_ASKED,
): Promise<Map<string, ReservoirCounts>> {
  const counts = new Map<string, ReservoirCounts>(await listReservoirCounts(deps.db))
  const missing = names.filter((name) => !counts.has(name)).slice(0, maxAsked)
  for (const [name, each] of await countNow(deps, missing)) counts.set(name, each)
  return counts
}

/**
 * Asks reservoirs for their counts, and stores the answers in D1. It leaves out those that do not answer, with one line in the log.
 *
 * @throws CallsUsedUp if the calls were not enough; what was counted is stored before, if one is left for that
 */
export async function countNow(
  deps: CountDeps,
  names: readonly string[],
): Promise<Map<string, ReservoirCounts>> {
  const counted = new Map<string, ReservoirCounts>()
  const failed: string[] = []
  let reason: unknown
  let usedUp: unknown
  await askEach(names, async (name) => {
    try {
      counted.set(name, await deps.reservoir(name).counts())
    } catch (error) {
      if (isCallsUsedUp(error)) {
        usedUp = error
        return
      }
      failed.push(name)
      reason = error
    }
  })
  if (failed.length > 0)
    console.warn(`The samples of ${failed.join(', ')} could not be counted and are counted later:`, reason)
  await putReservoirCounts(deps.db, counted)
  if (usedUp !== undefined) throw usedUp
  return counted
}

/** Returns counts as a model sees them; undefined counts are 0. */
function statsOf(counts: ReservoirCounts | undefined, model: string | undefined): DomainStats {
  const ofModel = model === undefined ? undefined : counts?.models[model]
  const { samples = 0, characters = 0 } = counts ?? {}
  return {
    samples,
    characters,
    newSamples: samples - (ofModel?.takenSamples ?? 0),
    newCharacters: characters - (ofModel?.takenCharacters ?? 0),
    seen: counts?.seen ?? 0,
    holdoutSamples: counts?.holdoutSamples ?? 0,
    holdoutCharacters: counts?.holdoutCharacters ?? 0,
    lastSampleAtMs: counts?.lastSampleAtMs ?? null,
    reviewSamples: counts?.reviewSamples ?? 0,
    countedAtMs: counts?.countedAtMs ?? null,
    draw: ofModel?.draw,
  }
}

/** Asks the reservoir of each domain, some at once. Returns the answers in the order of the names. */
export async function askEach<T>(names: readonly string[], ask: (name: string) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  for (let first = 0; first < names.length; first += MAX_AT_ONCE)
    results.push(...(await Promise.all(names.slice(first, first + MAX_AT_ONCE).map(ask))))
  return results
}
