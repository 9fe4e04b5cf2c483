import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { LossDifference } from '../../components/num.tsx'
import { Status } from '../../components/status.tsx'

/** What the detectors count. */
const OBSERVATIONS = 'Detectors first learn what is normal, from scored requests or means of some.'

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

/** What is known about the drift of a domain. */
export function DriftState({ summary }: Pick<SummaryProps, 'summary'>) {
  if (!summary) return <span class="soft">not known</span>
  const { state, words } = knownDrift(summary)
  if (state === 'unknown' || state === 'unjudged')
    return (
      <span class="soft" title={OBSERVATIONS}>
        {words}
      </span>
    )
  return <Status tone={state === 'drifting' ? 'harm' : 'quiet'}>{words}</Status>
}

/** The word of {@link DriftState}, for sorting and exporting. */
export function driftWord(summary: DomainSummary | undefined): string {
  return summary ? knownDrift(summary).words : 'not known'
}
