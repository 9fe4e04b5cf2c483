import type { Sample } from '@copal/shared/telemetry/family.ts'
import type {
  averageJobProgress,
  countFailedInARow,
  listNewestGates,
} from '../../storage/db/queries/metric-total-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { MAX_DOMAINS } from './label-bounds.ts'
import type { MetricSamples } from './metric-samples.ts'

/** The rows from which the metrics of updates are made. */
export interface UpdateFacts {
  failedInARow: Awaited<ReturnType<typeof countFailedInARow>>
  running: readonly UpdateRow[]
  progress: Awaited<ReturnType<typeof averageJobProgress>>
  gates: Awaited<ReturnType<typeof listNewestGates>>
}

/** Returns the updates that failed in a row, the progress of the running ones, and the figures of the newest gate decisions. */
export function updateSamples(facts: UpdateFacts, nowMs: number) {
  const { failedInARow, running, progress, gates } = facts
  return {
    updatesFailedInARow: failedInARow.map(({ model, updates }) => ({ labels: [model], value: updates })),
    updateAge: running.map(({ model, state, createdAt }) => ({
      labels: [model, state],
      value: Math.max(0, nowMs - createdAt) / 1000,
    })),
    updateProgress: progress.map(({ model, kind, progress: value }) => ({ labels: [model, kind], value })),
    gateRatio: gates.flatMap(gateFigures),
  } satisfies Partial<MetricSamples>
}

/** The label `figure` of the gate's comparisons, by the names that decisions have. */
const FIGURE_LABELS = new Map([
  ['perplexity / parent', 'parent'],
  ['perplexity / parent, weighted', 'parent_weighted'],
  ['perplexity / best', 'best'],
  ['perplexity / dense', 'dense'],
  ['perplexity / shared', 'shared'],
])

/**
 * Returns the ratios of perplexities of a gate decision, for its first {@link MAX_DOMAINS} holdouts. These have series of
 * their own with or without traffic: requests that name a new domain add no holdout.
 */
function gateFigures({ model, maskVersion, figures }: UpdateFacts['gates'][number]): Sample[] {
  const compared = figures.flatMap(({ name, domain, value, upper, limit }) => {
    const label = FIGURE_LABELS.get(name)
    if (label === undefined) return []
    const subject = domain ?? (label === 'parent_weighted' ? '(all)' : '(together)')
    return [{ label, subject, bounds: { value, upper, limit } }]
  })
  const shown = new Set([...new Set(compared.map(({ subject }) => subject))].slice(0, MAX_DOMAINS))
  const samples = new Map<string, Sample>()
  for (const { label, subject, bounds } of compared) {
    if (!shown.has(subject)) continue
    for (const [bound, value] of Object.entries(bounds)) {
      const key = `${label}\0${subject}\0${bound}`
      // A small holdout may have two figures of one name. The first has the bound.
      if (value === null || samples.has(key)) continue
      samples.set(key, { labels: [model, maskVersion ?? '', subject, label, bound], value })
    }
  }
  return [...samples.values()]
}
