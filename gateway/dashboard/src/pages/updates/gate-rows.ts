/** The gate's figures as rows: masks, held-out text, bound. */
import { capitalize } from '@copal/shared/phrases.ts'
import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { isUnjudged } from '@copal/shared/wire/unjudged-figures.ts'
import { endSentence } from '../../format/phrases.ts'
import { GENERAL, holdoutName } from '../../format/words.ts'

/** One comparison of perplexities. */
export interface GateRow {
  /** Name of the held-out text: a domain, `all domains`, `general text`. */
  subject: string
  domain: string | null
  /** The mask that the candidate is compared with. */
  against: 'parent' | 'best' | 'dense' | 'shared'
  /** The version of that mask where the figure names it; null elsewhere. */
  againstVersion: number | null
  /** Perplexity of the mask that it is compared with; null where it is not known. */
  reference: number | null
  /** Perplexity of the candidate; null where it is not known. */
  candidate: number | null
  /** Candidate / reference, with the interval. */
  ratio: number | null
  lower: number | null
  upper: number | null
  limit: number | null
  tokens: number | null
  passed: boolean
  note: string | undefined
}

/** One check that compares no perplexities, such as repetition. */
export interface SoundnessRow {
  name: string
  value: number | null
  limit: number | null
  passed: boolean
  note: string | undefined
}

/** The figures of a decision of the gate. */
export interface GateTable {
  rows: GateRow[]
  soundness: SoundnessRow[]
  /** Which domains it did not judge, and why. */
  unjudged: string[]
  /** The range of ratios that a chart of the intervals needs. */
  range: readonly [from: number, to: number]
}

const AGAINST: Readonly<Record<string, GateRow['against']>> = {
  'perplexity / parent': 'parent',
  'perplexity / parent, weighted': 'parent',
  'perplexity / best': 'best',
  'perplexity / dense': 'dense',
  'perplexity / shared': 'shared',
}
/** A chart of the intervals reaches at least this far on either side of 1, and at most that far. */
const MIN_SPAN = 0.02
const MAX_SPAN = 0.6

/** Returns the table of a decision of the gate, the comparison over all domains first. */
export function gateTable(
  decision: Pick<DecisionEntry, 'figures'>,
  parentVersion: number | null,
  r?: DriftReport['r'],
): GateTable {
  const compared = decision.figures.filter(({ name }) => AGAINST[name] !== undefined)
  const rows = compared.map((figure) => rowOf(figure, parentVersion ?? 0, r))
  const soundness = decision.figures
    .filter(({ name }) => AGAINST[name] === undefined && !isUnjudged(name))
    .map(({ name, value, limit, passed, note }) => ({ name, value, limit, passed, note }))
  const unjudged = decision.figures.flatMap(({ name, note = '' }) =>
    isUnjudged(name) ? capitalize(endSentence(note)) : [],
  )
  return { rows: rows.toSorted((a, b) => orderOf(a) - orderOf(b)), soundness, unjudged, range: rangeOf(rows) }
}

function rowOf(figure: DecisionFigure, parentVersion: number, r: DriftReport['r'] | undefined): GateRow {
  const against = AGAINST[figure.name] ?? 'parent'
  const isPurpose = figure.name.endsWith('weighted')
  const together = /^together: (.+)$/
    .exec(figure.note ?? '')?.[1]
    ?.split(', ')
    .map(holdoutName)
    .join(', ')
  const named = /^m(\d+)$/.exec(figure.note ?? '')?.[1]
  const subject = isPurpose
    ? 'all domains'
    : figure.domain === null
      ? (together ?? 'all domains')
      : holdoutName(figure.domain)
  const version = against === 'dense' ? 0 : against === 'parent' ? parentVersion : undefined
  const reference = version === undefined ? null : perplexityOf(figure, version, r)
  return {
    subject,
    domain: figure.domain === GENERAL ? null : figure.domain,
    against,
    againstVersion: named === undefined ? null : Number(named),
    reference,
    candidate: reference === null || figure.value === null ? null : reference * figure.value,
    ratio: figure.value,
    lower: figure.lower,
    upper: figure.upper,
    limit: figure.limit,
    tokens: figure.tokens,
    passed: figure.passed,
    note: isPurpose
      ? (figure.note ?? 'weighted by traffic')
      : together !== undefined
        ? 'bounded together'
        : named === undefined
          ? figure.note
          : undefined,
  }
}

/** The perplexity of a mask on the holdout of a figure, where the R matrix has it. */
function perplexityOf(
  figure: DecisionFigure,
  version: number,
  r: DriftReport['r'] | undefined,
): number | null {
  if (!r || figure.domain === null) return null
  const column = r.domains.indexOf(figure.domain)
  const isSame = r.holdouts.some(
    ({ domain, sha256 }) => domain === figure.domain && sha256 === figure.holdout,
  )
  const row = r.stages.findIndex(({ mask_version: stage }) => stage === version)
  return isSame ? (r.perplexity[row]?.[column] ?? null) : null
}

const ORDER: readonly GateRow['against'][] = ['parent', 'shared', 'best', 'dense']

function orderOf({ against, subject }: GateRow): number {
  return ORDER.indexOf(against) * 2 + (subject === 'all domains' ? 0 : 1)
}

function rangeOf(rows: readonly GateRow[]): readonly [number, number] {
  const ends = rows
    .filter(({ against }) => against !== 'dense')
    .flatMap(({ ratio, lower, upper, limit }) => [ratio, lower, upper, limit])
    .filter((value) => value !== null)
  const low = Math.max(1 - MAX_SPAN, Math.min(1 - MIN_SPAN, ...ends))
  const high = Math.min(1 + MAX_SPAN, Math.max(1 + MIN_SPAN, ...ends))
  const margin = (high - low) * 0.04
  return [low - margin, high + margin]
}
