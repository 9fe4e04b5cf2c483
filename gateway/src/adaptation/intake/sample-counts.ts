import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { MetricCount } from '../../storage/db/queries/metric-count-queries.ts'

/** The outcome of a queued sample. */
type SampleDecision = 'offered' | 'deleted' | 'withdrawn' | 'foreign' | 'no_domain' | 'retried' | 'dead'

/** Counts the samples of a batch of messages for metrics. */
export function createSampleCounts() {
  const counts: MetricCount[] = []
  return {
    /** Counts samples of a domain by what became of them. */
    decided(domain: string, decision: SampleDecision, value: number): void {
      // A domain that is not admitted may have any name.
      const named = decision === 'no_domain' ? '' : domain
      counts.push({ metric: 'samplerDecisions', labels: [named, decision], value })
    },
    /** Counts what was replaced in texts before they were queued. */
    redacted(samples: readonly Pick<SampleMessage, 'redactions'>[]): void {
      for (const { redactions = {} } of samples)
        for (const [name, value] of Object.entries(redactions))
          counts.push({ metric: 'redactions', labels: [name], value })
    },
    /** Returns the counts. */
    list: (): readonly MetricCount[] => counts,
  }
}
