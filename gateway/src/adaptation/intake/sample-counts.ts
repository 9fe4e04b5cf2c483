import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { MetricCount } from '../../storage/db/queries/metric-count-queries.ts'

/** The outcome of a queued sample. */
type SampleDecision = 'offered' | 'deleted' | 'withdrawn' | 'foreign' | 'no_domain' | 'retried' | 'dead'

/** Counts the samples of a batch of messages, for metrics and the log. */
export function createSampleCounts() {
  const decisions: { domain: string; decision: SampleDecision; samples: number }[] = []
  const redactions: MetricCount[] = []
  const of = (wanted: SampleDecision) => decisions.filter(({ decision }) => decision === wanted)
  return {
    /** Counts samples of a domain by what became of them. */
    decided(domain: string, decision: SampleDecision, samples: number): void {
      if (samples > 0) decisions.push({ domain, decision, samples })
    },
    /** Counts what was replaced in texts before they were queued. */
    redacted(samples: readonly Pick<SampleMessage, 'redactions'>[]): void {
      for (const { redactions: replaced = {} } of samples)
        for (const [name, value] of Object.entries(replaced))
          redactions.push({ metric: 'redactions', labels: [name], value })
    },
    /** Returns the number of samples with an outcome. */
    total: (decision: SampleDecision): number => of(decision).reduce((sum, { samples }) => sum + samples, 0),
    /** Returns the domains with samples of an outcome, sorted. */
    domainsOf: (decision: SampleDecision): string[] =>
      of(decision)
        .map(({ domain }) => domain)
        .sort(),
    /** Returns the counts for metrics. */
    list(): MetricCount[] {
      const counts = decisions.map(({ domain, decision, samples }): MetricCount => {
        // A domain that is not admitted may have any name.
        const named = decision === 'no_domain' ? '' : domain
        return { metric: 'samplerDecisions', labels: [named, decision], value: samples }
      })
      return [...counts, ...redactions]
    },
  }
}
/** Counts of the samples of a batch. */
export type SampleCounts = ReturnType<typeof createSampleCounts>
