import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { Num } from '../../components/num.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { formatLossDifference, formatNats, formatNumber, formatShare, NONE } from '../../format/numbers.ts'
import { DECISION_KINDS, verdictOf } from '../../format/words.ts'
import { VERDICT_TONES, verdictOfFigure } from './update-words.ts'

/** Decisions of an update with their reasons, newest first. Trials show their figures; those of the gate have a table of their own. */
export function DecisionLog({ decisions }: { decisions: readonly DecisionEntry[] }) {
  if (decisions.length === 0) return <p class="soft">Nothing was decided.</p>
  return (
    <ol class="log" aria-label="Decisions, newest first">
      {decisions.toReversed().map((decision) => (
        <li key={`${decision.created_at} ${decision.kind}`}>
          <span class="log-time">
            <Time at={decision.created_at} as="clock" />
          </span>
          <div>
            <p class="log-head">
              <strong>{DECISION_KINDS[decision.kind]}</strong>{' '}
              <Status tone={VERDICT_TONES[decision.verdict]}>{verdictOf(decision)}</Status>
              {decision.mask_version !== null && decision.mask_version > 0 && (
                <span class="soft"> mask {decision.mask_version}</span>
              )}
              {decision.actor !== 'copal' && <span class="soft"> by {decision.actor}</span>}
            </p>
            <p>{decision.reason}</p>
            <TrialFigures decision={decision} />
          </div>
        </li>
      ))}
    </ol>
  )
}

function TrialFigures({ decision: { kind, figures } }: { decision: DecisionEntry }) {
  if (figures.length === 0 || kind === 'gate') return null
  return (
    <details class="figures">
      <summary>{figures.length === 1 ? 'The figure' : `The ${figures.length} figures`}</summary>
      <Table
        caption={`Figures of the decision: ${DECISION_KINDS[kind]}`}
        columns={FIGURE_COLUMNS}
        rows={figures}
        rowKey={({ name, domain }) => `${name} ${domain ?? ''}`}
      />
    </details>
  )
}

const FIGURE_COLUMNS: readonly Column<DecisionFigure>[] = [
  {
    key: 'figure',
    title: 'Figure',
    phone: 'first',
    value: ({ name, domain }) => `${name} ${domain ?? ''}`,
    cell: ({ name, domain, note }) => (
      <span title={note}>
        {name}
        {domain !== null && <span class="soft"> {domain}</span>}
      </span>
    ),
  },
  {
    key: 'value',
    title: 'Value',
    align: 'end',
    value: ({ value }) => value,
    cell: ({ name, value }) => <Num title={exactOf(name, value)}>{formatFigure(name, value)}</Num>,
  },
  {
    key: 'interval',
    title: 'Interval',
    align: 'end',
    value: ({ upper }) => upper,
    cell: ({ name, lower, upper }) => (
      <Num>
        {lower === null && upper === null
          ? NONE
          : `${formatFigure(name, lower)} to ${formatFigure(name, upper)}`}
      </Num>
    ),
  },
  {
    key: 'limit',
    title: 'Limit',
    align: 'end',
    value: ({ limit }) => limit,
    cell: ({ name, limit }) => <Num>{formatFigure(name, limit)}</Num>,
  },
  {
    key: 'verdict',
    title: 'Verdict',
    align: 'end',
    phone: 'first',
    value: (figure) => verdictOfFigure(figure).word,
    cell: (figure) => {
      const { word, tone } = verdictOfFigure(figure)
      return <Status tone={tone}>{word}</Status>
    },
  },
]

/** Losses of trials are in nats, shares of requests are fractions, other figures are numbers. */
function formatFigure(name: string, value: DecisionFigure['value']): string {
  if (name === 'loss') return formatLossDifference(value)
  return name.startsWith('failed') || name.startsWith('slow') ? formatShare(value) : formatNumber(value)
}

function exactOf(name: string, value: DecisionFigure['value']): string | undefined {
  return name === 'loss' ? `${formatNats(value)} a prompt token` : undefined
}
