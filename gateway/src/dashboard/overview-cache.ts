import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { Deps } from '../contracts/bindings.ts'
import { overviewReport } from './overview.ts'
import { rememberDomains } from './remembered-domains.ts'
import { storeLatest } from '../runtime/bounded-map.ts'

/** How long an overview serves all streams of an isolate. */
const FRESH_MS = 2_000
/** How long it also serves while the next one is computed. One that is older was made for a page that was closed since. */
const USABLE_MS = 10_000
/** A computation that takes longer is taken for lost: its client may have left. */
const LOST_MS = 10_000
/** How often a stream looks whether the computation of another one has ended. */
const CHECK_MS = 50
/** Models whose overviews are kept; one name that is not a model takes none. */
const MAX_MODELS = 64

/** An overview as JSON. */
export interface SharedOverview {
  json: string
  /** Equal for overviews that differ only in the time. */
  state: string
}

interface Entry {
  overview: SharedOverview | undefined
  atMs: number
  /** When a computation began that has not ended; undefined without one. */
  sinceMs: number | undefined
}

/** The overviews of an isolate. */
export interface OverviewCache {
  /**
   * Returns the overview of a model, at most two seconds old, or ten while the next one is computed.
   *
   * @throws AppError as `overviewReport`
   */
  read(
    deps: Pick<Deps, 'db' | 'fleet' | 'nowMs' | 'adaptationPreset'>,
    model: string | undefined,
  ): Promise<SharedOverview>
}

/**
 * Creates an empty cache. Streams share what one of them computes; the others look for it by a timer of their own, because in
 * workerd a request must not wait for the input and output of another one.
 *
 * @param compute replaced in tests
 */
export function createOverviewCache(compute: typeof overviewReport = overviewReport): OverviewCache {
  const entries = new Map<string, Entry>()
  const summarise = rememberDomains()
  return {
    async read(deps, model) {
      const key = model ?? ''
      for (;;) {
        const nowMs = deps.nowMs()
        const entry = entries.get(key)
        if (entry?.overview && nowMs - entry.atMs < FRESH_MS) return entry.overview
        if (entry?.sinceMs === undefined || nowMs - entry.sinceMs >= LOST_MS) break
        // The overview that it will replace is good enough meanwhile.
        if (entry.overview && nowMs - entry.atMs < USABLE_MS) return entry.overview
        await new Promise((resolve) => setTimeout(resolve, CHECK_MS))
      }
      const previous = entries.get(key)
      const begun = { ...(previous ?? { overview: undefined, atMs: 0 }), sinceMs: deps.nowMs() }
      storeLatest(entries, key, begun, MAX_MODELS)
      try {
        const overview = describe(await compute(deps, model, summarise))
        storeLatest(entries, key, { overview, atMs: deps.nowMs(), sinceMs: undefined }, MAX_MODELS)
        return overview
      } catch (error) {
        if (previous) storeLatest(entries, key, { ...previous, sinceMs: undefined }, MAX_MODELS)
        else entries.delete(key)
        throw error
      }
    },
  }
}

function describe(report: OverviewReport): SharedOverview {
  const nodes = report.nodes.map((node) => ({ ...node, seen_ms_ago: 0 }))
  return { json: JSON.stringify(report), state: JSON.stringify({ ...report, at: '', nodes }) }
}
