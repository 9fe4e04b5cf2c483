import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { Num } from '../../components/num.tsx'
import { Status } from '../../components/status.tsx'
import { Time } from '../../components/time.tsx'
import { formatLossDifference, formatNats, formatNumber, formatShare } from '../../format/numbers.ts'
import { KINDS, VERDICTS } from './update-words.ts'

/** What was decided and why, newest first. Trials show their figures; those of the gate have a table of their own. */
export function DecisionLog({ decisions }: { decisions: readonly DecisionEntry[] }) {
  if (decisions.length === 0) return <p class="soft">Nothing was decided yet.</p>
  return (
    <ol class="log" aria-label="Decisions, newest first">
      {decisions.toReversed().map((decision) => (
        <li key={`${decision.created_at} ${decision.kind}`}>
          <span class="log-time">
            <Time at={decision.created_at} as="clock" />
          </span>
          <div>
            <p class="log-head">
              <strong>{KINDS[decision.kind]}</strong>{' '}
              <Status tone={VERDICTS[decision.verdict].tone}>{VERDICTS[decision.verdict].word}</Status>
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
      <div class="wide" tabIndex={0} role="region" aria-label={`Figures of the decision: ${KINDS[kind]}`}>
        <table>
          <thead>
            <tr>
              <th scope="col">Figure</th>
              <th scope="col" class="align-end">
                Value
              </th>
              <th scope="col" class="align-end">
                Interval
              </th>
              <th scope="col" class="align-end">
                Limit
              </th>
              <th scope="col">Verdict</th>
            </tr>
          </thead>
          <tbody>
            {figures.map((figure) => (
              <tr key={`${figure.name} ${figure.domain ?? ''}`}>
                <th scope="row" title={figure.note}>
                  {figure.name}
                  {figure.domain !== null && <span class="soft"> {figure.domain}</span>}
                </th>
                <td class="align-end">
                  <Num title={exactOf(figure.name, figure.value)}>
                    {formatFigure(figure.name, figure.value)}
                  </Num>
                </td>
                <td class="align-end">
                  <Num>
                    {figure.lower === null && figure.upper === null
                      ? '–'
                      : `${formatFigure(figure.name, figure.lower)} to ${formatFigure(figure.name, figure.upper)}`}
                  </Num>
                </td>
                <td class="align-end">
                  <Num>{formatFigure(figure.name, figure.limit)}</Num>
                </td>
                <td>
                  <Status tone={figure.passed ? 'good' : 'harm'}>
                    {figure.passed ? 'within' : 'beyond'}
                  </Status>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  )
}

/** Losses of trials are in nats, shares of requests are fractions, other figures are numbers. */
function formatFigure(name: string, value: DecisionFigure['value']): string {
  if (name === 'loss') return formatLossDifference(value)
  return name.startsWith('failed') || name.startsWith('slow') ? formatShare(value) : formatNumber(value)
}

function exactOf(name: string, value: DecisionFigure['value']): string | undefined {
  return name === 'loss' ? `${formatNats(value)} a prompt token` : undefined
}
