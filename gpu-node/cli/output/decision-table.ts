import { capitalize } from '@copal/shared/phrases.ts'
import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { isUnjudged, isUnjudgedTime } from '@copal/shared/wire/unjudged-figures.ts'
import { formatAge, formatMask } from '@copal/gpu-node/platform/quantities.ts'
import type { Column } from './table.ts'

/** Renders tables, as a session does. */
interface Tables {
  table: <Row>(columns: readonly Column<Row>[], rows: readonly Row[]) => string
}

/** Describes what was decided about an update: for each decision a sentence, and a table of its figures. */
export function describeDecisions(decisions: readonly DecisionEntry[], session: Tables): string {
  return decisions.map((decision) => describeDecision(decision, session)).join('\n\n')
}

function describeDecision(
  { kind, verdict, reason, mask_version: mask, actor, created_at: createdAt, figures }: DecisionEntry,
  session: Tables,
): string {
  const what = [kind.replace('_', ' '), ...(mask === null ? [] : [formatMask(mask)])].join(' of ')
  const isTrial = kind === 'canary' || kind === 'watch'
  const who = actor === 'copal' ? '' : ` by ${actor}`
  const head = `${what}: ${verdict.replace('_', ' ')}${who}, ${formatAge(createdAt, Date.now())}\n${reason}`
  const compared = figures.filter(({ name }) => !isUnjudged(name))
  const table = compared.length === 0 ? [] : [figureTable(compared, isTrial, session)]
  // Whole lines, because names of domains do not fit a column.
  const unjudged = figures.filter(({ name }) => isUnjudged(name)).map(({ note }) => capitalize(note ?? ''))
  return [head, ...table, ...unjudged].join('\n')
}

function figureTable(figures: readonly DecisionFigure[], isTrial: boolean, session: Tables): string {
  return session.table(
    [
      { title: 'FIGURE', value: ({ name }) => name },
      { title: 'DOMAIN', value: ({ domain, note }) => domain ?? note ?? '-', shrinks: true },
      { title: 'VALUE', value: ({ value }) => formatFigure(value), align: 'right' },
      { title: 'BOUND', value: (row) => boundOf(row, isTrial), align: 'right' },
      { title: 'LIMIT', value: ({ limit }) => formatFigure(limit), align: 'right' },
      { title: 'PASSED', value: (row) => (isUnjudgedTime(row) ? '-' : row.passed ? 'yes' : 'NO') },
    ],
    figures,
  )
}

/** A trial ends when harm is proven, which is the lower bound above the limit; the gate asks for an upper one below it. */
function boundOf({ lower, upper }: DecisionFigure, isTrial: boolean): string {
  return formatFigure(isTrial ? (lower ?? upper) : (upper ?? lower))
}

/** Formats a number in at most eight characters. */
function formatFigure(value: number | null): string {
  if (value === null) return '-'
  const size = Math.abs(value)
  if (size >= 10_000 || (size > 0 && size < 0.0001)) return value.toExponential(1)
  return String(Number(value.toFixed(size >= 100 ? 1 : 4)))
}
