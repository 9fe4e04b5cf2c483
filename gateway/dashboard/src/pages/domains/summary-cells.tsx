import { knownDrift, type KnownDrift } from '@copal/shared/wire/drift-state.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { LossDifference } from '../../components/num.tsx'
import { Status } from '../../components/status.tsx'

/** What the detectors count. */
const OBSERVATIONS = 'Detectors first learn what is normal, from scored requests or means of some.'

interface SummaryProps {
  /** `undefined`: the domain had no traffic, or the overview does not list it. */
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

/** What is known about the drift of a domain; of one without a summary only whether an alert holds. */
export function DriftState({ summary, drifts }: Pick<SummaryProps, 'summary'> & { drifts?: boolean }) {
  const { state, words } = driftOf(summary, drifts)
  if (state === 'unknown' || state === 'unjudged')
    return (
      <span class="soft" title={OBSERVATIONS}>
        {words}
      </span>
    )
  return <Status tone={state === 'drifting' ? 'harm' : 'quiet'}>{words}</Status>
}

/** The words of {@link DriftState}, for sorting and exporting. */
export function driftWord(summary: DomainSummary | undefined, drifts?: boolean): string {
  return driftOf(summary, drifts).words
}

function driftOf(summary: DomainSummary | undefined, drifts = false): KnownDrift {
  if (summary) return knownDrift(summary)
  return drifts ? { state: 'drifting', words: 'drifting' } : { state: 'unknown', words: 'not known' }
}
