import type { Precision } from '../../../native/addon.d.ts'
import type { Spread } from '../../platform/spread.ts'

/** A way to serve the model: a mask or none, a precision, and the form of pruned weights. */
export interface AdviceSubject {
  /** Name of the mask, like `m3` or a file; null is dense. */
  mask: string | null
  precision: Precision
  /** Null without a mask. */
  form: 'packed' | 'dense' | null
}

/** The cost, speed and quality of one way to serve the model. */
export interface AdviceRow extends AdviceSubject {
  /** Bytes that the weights take in memory. */
  bytes: number
  /** Tokens per second of one stream. */
  oneStream: Spread
  /** Tokens per second of eight streams together. */
  eightStreams: Spread
  /** Tokens per second of a prompt. */
  prefill: Spread
  perplexity: number
}

/** The advice for a machine and its masks. */
export interface Advice {
  /** How it is served now; null if that was not measured. */
  current: AdviceRow | null
  /** A row that is much faster at almost the same perplexity; null if there is none. */
  better: { row: AdviceRow; timesAsFast: number; timesPerplexity: number } | null
  /** One sentence for people. */
  sentence: string
}

/** A row is advised that is this many times as fast … */
const MIN_TIMES_AS_FAST = 1.2
/** … at no more than this many times the perplexity. */
const MAX_TIMES_PERPLEXITY = 1.01

/** Returns the speed by which rows are compared: the geometric mean of one stream and eight. */
function speedOf({ oneStream, eightStreams }: AdviceRow): number {
  return Math.sqrt(oneStream.median * eightStreams.median)
}

/**
 * Returns the rows that no other row beats: one that is at least as good in speed, bytes and perplexity, and better in
 * one of them.
 */
export function frontOf(rows: readonly AdviceRow[]): ReadonlySet<AdviceRow> {
  const costs = (row: AdviceRow) => [1 / speedOf(row), row.bytes, row.perplexity]
  const beats = (a: readonly number[], b: readonly number[]) =>
    a.every((cost, index) => cost <= (b[index] as number)) &&
    a.some((cost, index) => cost < (b[index] as number))
  return new Set(rows.filter((row) => !rows.some((other) => beats(costs(other), costs(row)))))
}

/**
 * Advises on rows that were measured together.
 *
 * @param now how the model is served now; a null form means that the node chooses it: the faster one counts, or the best of
 *   both, which a node holds where each of them is faster somewhere
 * @param int4Form the form that the node chooses in int4
 */
export function advise(rows: readonly AdviceRow[], now: AdviceSubject, int4Form: 'packed' | 'dense'): Advice {
  /** Null where the node chooses the faster form. */
  const formIn = (precision: Precision) => now.form ?? (precision === 'int4' ? int4Form : null)
  const isServed = (row: AdviceRow) => row.form === null || [null, row.form].includes(formIn(row.precision))
  const isNow = (row: AdviceRow) => row.mask === now.mask && row.precision === now.precision && isServed(row)
  const fastest = (some: readonly AdviceRow[]) => some.toSorted((a, b) => speedOf(b) - speedOf(a))[0] ?? null
  const served = rows.filter(isNow)
  const current = fastest(served)
  if (current === null) {
    const best = fastest(rows)
    const sentence = best === null ? 'Nothing was measured.' : `${describeSubject(best)} is the fastest here.`
    return { current, better: null, sentence }
  }
  const speed = bestSpeedOf(served)
  const servedNow =
    speed > speedOf(current)
      ? `${describeSubject({ ...current, form: null })}, stored in both forms`
      : describeSubject(current)
  const timesAsFast = (row: AdviceRow) => speedOf(row) / speed
  const timesPerplexity = (row: AdviceRow) => row.perplexity / current.perplexity
  const row = fastest(
    rows.filter(
      (each) => timesPerplexity(each) <= MAX_TIMES_PERPLEXITY && timesAsFast(each) >= MIN_TIMES_AS_FAST,
    ),
  )
  if (row === null) {
    return {
      current,
      better: null,
      sentence:
        `Stay with ${servedNow}: nothing measured here is ${MIN_TIMES_AS_FAST} × as fast ` +
        'at 1 % more perplexity or less.',
    }
  }
  const better = { row, timesAsFast: timesAsFast(row), timesPerplexity: timesPerplexity(row) }
  const sentence =
    `${describeSubject(row)} is ${better.timesAsFast.toFixed(2)} × as fast as ${servedNow}, ` +
    `as it is served now, at ${describeChange(better.timesPerplexity)}: ${remedy(current, row, !isServed(row))}.`
  return { current, better, sentence }
}

/** Returns the speed of a node that serves each number of streams by the fastest of some rows. */
function bestSpeedOf(rows: readonly AdviceRow[]): number {
  const best = (speeds: readonly number[]) => Math.max(...speeds)
  return Math.sqrt(
    best(rows.map(({ oneStream }) => oneStream.median)) *
      best(rows.map(({ eightStreams }) => eightStreams.median)),
  )
}

/** Describes a way to serve the model: `bf16 under m3, packed`. */
function describeSubject({ mask, precision, form }: AdviceSubject): string {
  const weights = mask === null ? `${precision} dense` : `${precision} under ${mask}`
  return form === null ? weights : `${weights}, ${form === 'dense' ? 'stored dense' : 'packed'}`
}

function describeChange(timesPerplexity: number): string {
  const percent = (timesPerplexity - 1) * 100
  if (Math.abs(percent) < 0.05) return 'the same perplexity'
  return `${Math.abs(percent).toFixed(1)} % ${percent > 0 ? 'more' : 'less'} perplexity`
}

/** @param setsForm whether the node would not take the row's form by itself */
function remedy(current: AdviceSubject, row: AdviceSubject, setsForm: boolean): string {
  const settings = [
    ...(row.precision === current.precision ? [] : [`COPAL_PRECISION=${row.precision}`]),
    ...(setsForm ? [`COPAL_FORM=${row.form}`] : []),
  ]
  const steps = settings.length > 0 ? [`restart the node with ${settings.join(' ')}`] : []
  if (row.mask !== current.mask) steps.push(`serve ${row.mask ?? 'the dense weights'}`)
  return steps.join(' and ')
}
