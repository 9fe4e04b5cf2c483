import { useState } from 'preact/hooks'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { IntervalBar } from '../../charts/interval-bar.tsx'
import { Choice } from '../../components/fields.tsx'
import { Num } from '../../components/num.tsx'
import { Section } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import {
  formatCount,
  formatExact,
  formatNumber,
  formatPercentTick,
  formatSignedPercent,
  NONE,
  plural,
} from '../../format/numbers.ts'
import { maskName } from '../../format/mask-names.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import { gateTable, type GateRow, type SoundnessRow } from './gate-rows.ts'

interface GateSectionProps {
  /** The decisions of the gate, oldest first: one a candidate. */
  decisions: readonly DecisionEntry[]
  parentVersion: number | null
  r: DriftReport['r'] | undefined
  /** `r` is on its way: the places of the perplexities are kept. */
  isLoading: boolean
}

/** The gate's measurements of each candidate: changes of perplexity with their intervals against the bounds. */
export function GateSection({ decisions, parentVersion, r, isLoading }: GateSectionProps) {
  const [chosen, setChosen] = useState<number>()
  const index = Math.min(chosen ?? decisions.length - 1, decisions.length - 1)
  const decision = decisions[index]
  if (!decision) return null
  const { rows, soundness, unjudged, range } = gateTable(decision, parentVersion, r)
  const failed = rows.filter(({ passed }) => !passed).length
  return (
    <Section
      title="Gate"
      note={
        rows.length > 0
          ? `${rows.length - failed} of ${plural(rows.length, 'comparison')} within ${rows.length === 1 ? 'its limit' : 'their limits'}`
          : undefined
      }
      actions={
        decisions.length > 1 && (
          <Choice
            label="Candidate"
            value={String(index)}
            options={decisions.map((_, each) => ({ value: String(each), label: `Candidate ${each + 1}` }))}
            onChange={(value) => setChosen(Number(value))}
          />
        )
      }
    >
      <p class="reason">{decision.reason}</p>
      {rows.length > 0 && (
        <Table
          caption="Comparisons of the gate"
          columns={columnsOf(range, isLoading || rows.some(({ reference }) => reference !== null))}
          rows={rows}
          rowKey={(row) => `${row.against} ${row.subject} ${row.note ?? ''}`}
        />
      )}
      <SoundnessList rows={soundness} />
      {unjudged.map((why) => (
        <p key={why} class="chart-note">
          {why}
        </p>
      ))}
    </Section>
  )
}

const AGAINST: Readonly<Record<GateRow['against'], string>> = {
  parent: 'active mask',
  best: 'best mask',
  dense: 'dense',
  shared: 'shared mask',
}

function columnsOf(range: readonly [number, number], hasPerplexities: boolean): Column<GateRow>[] {
  const columns: Column<GateRow>[] = [
    {
      key: 'domain',
      title: 'Domain',
      phone: 'first',
      value: ({ subject }) => subject,
      cell: ({ subject, domain, note, tokens }) => (
        <span title={tokens === null ? undefined : `${formatCount(tokens)} held-out tokens`}>
          {domain === null ? subject : <Link to={paths.domain(domain)}>{subject}</Link>}
          {note !== undefined && <span class="cell-note">{note}</span>}
        </span>
      ),
    },
    { key: 'against', title: 'Against', value: againstWords },
    {
      key: 'reference',
      title: 'Reference',
      align: 'end',
      phone: 'none',
      hint: 'Perplexity of the mask that the candidate is compared with, on the same held-out text.',
      value: ({ reference }) => reference,
      cell: ({ reference }) => <Num>{formatExact(reference)}</Num>,
    },
    {
      key: 'candidate',
      title: 'Candidate',
      align: 'end',
      phone: 'none',
      hint: 'Perplexity of the candidate.',
      value: ({ candidate }) => candidate,
      cell: ({ candidate }) => <Num>{formatExact(candidate)}</Num>,
    },
    {
      key: 'change',
      title: 'Change',
      align: 'end',
      hint: 'Perplexity of the candidate relative to the other.',
      value: ({ ratio }) => (ratio === null ? null : ratio - 1),
      cell: (row) => <Num title={intervalOf(row)}>{formatChange(row.ratio)}</Num>,
    },
    {
      key: 'interval',
      title: '',
      phone: 'none',
      value: () => null,
      cell: (row) =>
        row.against === 'dense' ? null : (
          <IntervalBar
            value={relative(row.ratio)}
            lower={relative(row.lower)}
            upper={relative(row.upper)}
            bound={relative(row.limit)}
            range={[range[0] - 1, range[1] - 1]}
            label={`${formatChange(row.ratio)}, ${intervalOf(row) ?? 'without an interval'}; the limit is ${formatChange(row.limit)}`}
          />
        ),
    },
    {
      key: 'upper',
      title: 'At most',
      align: 'end',
      hint: 'Upper bound of the change, with the confidence of this candidate. The change of a small holdout has none of its own.',
      value: ({ upper }) => (upper === null ? null : upper - 1),
      cell: ({ upper }) => upper !== null && <Num>{formatChange(upper)}</Num>,
    },
    {
      key: 'limit',
      title: 'Limit',
      align: 'end',
      hint: 'The upper bound must not exceed it; without a bound the change must not.',
      value: ({ limit }) => limit,
      cell: ({ limit }) => <Num>{limit === null ? NONE : formatPercentTick((limit - 1) * 100)}</Num>,
    },
    {
      key: 'verdict',
      title: 'Verdict',
      phone: 'first',
      align: 'end',
      value: ({ passed }) => (passed ? 'within' : 'beyond'),
      cell: ({ passed }) => <Status tone={passed ? 'good' : 'harm'}>{passed ? 'within' : 'beyond'}</Status>,
    },
  ]
  return hasPerplexities ? columns : columns.filter(({ key }) => key !== 'reference' && key !== 'candidate')
}

function againstWords({ against, againstVersion: version }: GateRow): string {
  return against === 'best' && version !== null ? `${maskName(version)}, the best` : AGAINST[against]
}

function relative(ratio: number | null): number | null {
  return ratio === null ? null : ratio - 1
}

function formatChange(ratio: number | null): string {
  if (ratio === null) return NONE
  if (ratio >= 3) return `× ${formatNumber(ratio)}`
  return formatSignedPercent((ratio - 1) * 100)
}

function intervalOf({ lower, upper }: GateRow): string | undefined {
  return upper === null
    ? undefined
    : `${formatChange(lower)} to ${formatChange(upper)} with the confidence of this candidate`
}

/** Checks that compare no perplexities: whether the mask gives text at all. */
function SoundnessList({ rows }: { rows: readonly SoundnessRow[] }) {
  if (rows.length === 0) return null
  return (
    <ul class="checks" aria-label="Checks of what the mask generates">
      {rows.map(({ name, value, limit, passed, note }) => (
        <li key={name} title={note}>
          <Status tone={passed ? 'good' : 'harm'}>{name}</Status>
          {value !== null && limit !== null && (
            <span class="soft">
              {' '}
              {formatNumber(value)} of at most {formatNumber(limit)}
            </span>
          )}
        </li>
      ))}
    </ul>
  )
}
