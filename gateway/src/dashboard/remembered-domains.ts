import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { summariseDomains } from './summarise-domains.ts'

/** How long the figures of domains, which cover 24 hours, are used again. */
const FRESH_MS = 30_000
const MAX_MODELS = 64

/** Creates `summariseDomains` that reads the figures of a model and its mask at most every 30 seconds; alerts are as given. */
export function rememberDomains(): typeof summariseDomains {
  const known = new Map<string, { summaries: DomainSummary[]; atMs: number }>()
  return async (deps, model, drifting) => {
    const key = `${model.id} ${model.activeVersion}`
    const nowMs = deps.nowMs()
    let entry = known.get(key)
    if (!entry || nowMs - entry.atMs >= FRESH_MS) {
      entry = { summaries: await summariseDomains(deps, model, new Set()), atMs: nowMs }
      if (known.size >= MAX_MODELS) known.clear()
      known.set(key, entry)
    }
    return entry.summaries.map((summary) => ({ ...summary, drifting: drifting.has(summary.name) }))
  }
}
