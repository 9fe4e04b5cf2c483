import type { Sample } from '@copal/shared/telemetry/family.ts'
import type {
  averageJobProgress,
  countFailedInARow,
  listNewestGates,
} from '../../storage/db/queries/metric-total-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { LabelBounds } from './label-bounds.ts'
import type { MetricSamples } from './metric-samples.ts'

/** The rows from which the metrics of updates are made. */
export interface UpdateFacts {
  failedInARow: Awaited<ReturnType<typeof countFailedInARow>>
  running: readonly UpdateRow[]
  progress: Awaited<ReturnType<typeof averageJobProgress>>
  gates: Awaited<ReturnType<typeof listNewestGates>>
}

/** Returns the updates that failed in a row, the progress of the running ones, and the figures of the newest gate decisions. */
export function updateSamples(facts: UpdateFacts, bounds: LabelBounds, nowMs: number) {
  const { failedInARow, running, progress, gates } = facts
  return {
    updatesFailedInARow: failedInARow.map(({ model, updates }) => ({ labels: [model], value: updates })),
    updateAge: running.map(({ model, state, createdAt }) => ({
      labels: [model, state],
      value: Math.max(0, nowMs - createdAt) / 1000,
    })),
    updateProgress: progress.map(({ model, kind, progress: value }) => ({ labels: [model, kind], value })),
    gateRatio: gates.flatMap((gate) => gateFigures(gate, bounds)),
  } satisfies Partial<MetricSamples>
}

/** Returns the ratios of perplexities of a gate decision; a figure over all domains has an empty one. */
function gateFigures(
  { model, maskVersion, figures }: UpdateFacts['gates'][number],
  bounds: LabelBounds,
): Sample[] {
  return figures.flatMap(({ name, domain, value, upper, limit }): Sample[] => {
    const [, comparison] = /^perplexity \/ (\w+)$/.exec(name) ?? []
    if (comparison === undefined || (domain !== null && bounds.domain(model, domain) !== domain)) return []
    const labels = [model, maskVersion ?? '', domain ?? '', comparison]
    return Object.entries({ value, upper, limit }).flatMap(([bound, figure]): Sample[] =>
      figure === null ? [] : [{ labels: [...labels, bound], value: figure }],
    )
  })
}
