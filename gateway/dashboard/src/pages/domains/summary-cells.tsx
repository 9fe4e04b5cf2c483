import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { LossDifference } from '../../components/num.tsx'
import { Status } from '../../components/status.tsx'

interface SummaryProps {
  /** `undefined`: the domain had no traffic. */
  summary: DomainSummary | undefined
  /** The dense weights serve, so that nothing is pruned. */
  isDense: boolean
}

/** The cost of pruning of a domain, or the reason why it is not known. */
export function Cost({ summary, isDense }: SummaryProps) {
  if (!summary) return <span class="soft">–</span>
  const { gap } = summary
  return (
    <LossDifference
      nats={gap?.mean}
      lower={gap?.lower}
      upper={gap?.upper}
      missing={isDense ? 'dense' : 'too few scores'}
    />
  )
}

/** Drift of a domain, as far as it is scored. */
export function DriftState({ summary }: Pick<SummaryProps, 'summary'>) {
  if (summary?.drifting) return <Status tone="harm">drifting</Status>
  return summary && summary.gap !== null ? (
    <Status tone="quiet">steady</Status>
  ) : (
    <span class="soft">not known</span>
  )
}

/** The word of {@link DriftState}, for sorting and exporting. */
export function driftWord(summary: DomainSummary | undefined): string {
  if (summary?.drifting) return 'drifting'
  return summary && summary.gap !== null ? 'steady' : 'not known'
}
