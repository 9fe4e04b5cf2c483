import type { FormFigures } from './form-figures.ts'
import type { FormSpeed } from './form-speed.ts'

/** `auto` takes the form that is faster on this machine; the others are taken whatever they cost. */
export const FORM_SETTINGS = ['auto', 'packed', 'dense'] as const
/** The setting of the form of pruned weights. */
export type FormSetting = (typeof FORM_SETTINGS)[number]

/**
 * The form in which a weight set stores its pruned linears, and why. It changes no bit of any output in bf16 and int8. In
 * int4, dense weights need a code for 0 and are further from the model's.
 */
export interface FormChoice {
  form: 'packed' | 'dense' | 'both'
  /** With `both`: the smallest number of tokens at once that the dense form multiplies. */
  denseFrom: number
  /** For people: the measured ratios, or the setting. */
  why: string
}

/** The figures and bounds by which a form is chosen. */
export interface FormQuestion {
  wanted: FormSetting
  /** Null when nothing was measured. */
  figures: FormFigures | null
  /** Requests that are expected to run at once. */
  streams: number
  /** Bytes of a weight set in each form. */
  bytes: { packed: number; dense: number }
  /** Whether a weight set of so many bytes fits the memory for weight sets. */
  fits: (bytes: number) => boolean
}

/**
 * A form that is taken by measurement is at least this fast, relative to dense, at one stream, at eight, at the expected
 * number and in prefill, also if its speeds are the lowest that the measurement allows.
 */
const MIN_SPEED = 0.97
/** Keeping both forms must be this much faster than the better one alone, because it takes the memory of both. */
const MIN_GAIN_OF_BOTH = 1.1
/** Streams at which the rule looks whatever is expected: as many tokens share one pass over the weights. */
const USUAL_STREAMS = 8
/** With more streams than this, the speeds at so many are taken. */
const MAX_STREAMS = 32

/**
 * Chooses the form of a weight set.
 *
 * A form qualifies if it is at least {@link MIN_SPEED} × as fast as dense at one stream, at eight, at the expected number of
 * streams and in prefill, with the speed of packed weights at the low end of its interval: noise alone does not replace the
 * dense form. Among the forms that qualify and fit the memory, the function chooses the one with the best geometric mean of
 * its measured speeds at one stream and at the expected number of streams. Of equal ones it chooses the packed form, which
 * takes less memory, and also where no fast form fits.
 *
 * Not for int4, whose forms are different weights: see {@link chooseInt4Form}.
 */
export function chooseForm(question: FormQuestion): FormChoice {
  const { wanted, figures, bytes, fits } = question
  const measured = figures === null ? '' : describeFigures(figures)
  if (wanted !== 'auto') {
    const why = [`COPAL_FORM is ${wanted}`, measured].filter(Boolean).join('; ')
    return { form: wanted, denseFrom: 0, why }
  }
  if (figures === null) return { form: 'packed', denseFrom: 0, why: 'not measured on this machine' }

  const candidates = candidateForms(figures, question.streams)
    .filter(({ slowest }) => slowest >= MIN_SPEED)
    .toSorted((a, b) => b.mean - a.mean)
  const single = candidates.find(({ form }) => form !== 'both')
  const paying = candidates.filter(
    ({ form, mean }) => form !== 'both' || mean >= MIN_GAIN_OF_BOTH * (single?.mean ?? 1),
  )
  const needed = { ...bytes, both: bytes.packed + bytes.dense }
  const best = paying.find(({ form }) => form === 'packed' || fits(needed[form]))
  if (best) return { form: best.form, denseFrom: best.denseFrom, why: measured }
  const why = `${measured}; the dense form does not fit the memory for weight sets (COPAL_WEIGHT_BYTES)`
  return { form: 'packed', denseFrom: 0, why }
}

/** Kernels with expanding moves, by which packed int4 is as fast as dense. */
const FAST_INT4_KERNELS: ReadonlySet<string> = new Set(['amx', 'avx512bf16', 'avx512vbmi2'])

/**
 * Returns the form in which a node stores pruned int4 by itself: packed, which has less perplexity, unless its kernel
 * multiplies that more slowly than dense weights. Neither noise nor memory changes it, so all nodes with such a kernel serve
 * and evaluate the same weights.
 */
export function int4FormOf(kernel: string): 'packed' | 'dense' {
  return FAST_INT4_KERNELS.has(kernel) ? 'packed' : 'dense'
}

/** Chooses the form of a weight set in int4, without a measurement: see {@link int4FormOf}. */
export function chooseInt4Form(kernel: string): FormChoice {
  const form = int4FormOf(kernel)
  const why =
    form === 'packed'
      ? `with ${kernel} int4 is packed, which has less perplexity`
      : `with ${kernel} packed int4 is slower than dense`
  return { form, denseFrom: 0, why }
}

interface Candidate {
  form: FormChoice['form']
  denseFrom: number
  /** Mean speed relative to dense, as measured. */
  mean: number
  /** Lowest speed relative to dense that the measurement allows. */
  slowest: number
}

function candidateForms({ counts, prefill }: FormFigures, streams: number): Candidate[] {
  const expected = Math.min(streams, MAX_STREAMS)
  const candidate = (form: FormChoice['form'], denseFrom: number): Candidate => {
    /** Speed of the form relative to dense. */
    const at = (figure: 'packedSpeed' | 'low', { tokens, ...speed }: FormSpeed) =>
      tokens >= denseFrom ? 1 : speed[figure]
    const decode = (figure: 'packedSpeed' | 'low', tokens: number) => {
      const speed = counts.findLast((count) => count.tokens <= tokens)
      return speed ? at(figure, speed) : 1
    }
    return {
      form,
      denseFrom: form === 'both' ? denseFrom : 0,
      mean: Math.sqrt(decode('packedSpeed', 1) * decode('packedSpeed', expected)),
      slowest: Math.min(
        ...[1, USUAL_STREAMS, expected].map((tokens) => decode('low', tokens)),
        at('low', prefill),
      ),
    }
  }
  // The first count from which on the dense form is never slower. Above the largest count, several passes over the
  // weights begin, as in prefill.
  const denseFrom = (figure: 'packedSpeed' | 'low') => {
    const lastPacked = counts.findLastIndex((count) => count[figure] > 1)
    return counts[lastPacked + 1]?.tokens ?? (counts.at(-1)?.tokens ?? 0) + 1
  }
  return [
    // Before dense, so that equal means prefer packed.
    candidate('packed', Infinity),
    candidate('dense', 0),
    // Where packed weights are faster as measured, or else where they are surely faster.
    candidate('both', denseFrom('packedSpeed')),
    candidate('both', denseFrom('low')),
  ]
}

/**
 * Describes figures: `packed runs 1.21 × (1.19–1.24) as fast as dense at one stream, 0.98 × (0.97–0.99) at 8, 1.02 ×
 * (1.01–1.03) at 32, 1.00 × (0.99–1.01) in prefill`.
 */
function describeFigures({ counts, prefill }: FormFigures): string {
  const at = ({ packedSpeed, low, high }: FormSpeed) =>
    `${packedSpeed.toFixed(2)} × (${low.toFixed(2)}–${high.toFixed(2)})`
  const [one] = counts
  if (!one) return ''
  const many = counts.filter(({ tokens }) => [USUAL_STREAMS, MAX_STREAMS].includes(tokens))
  const parts = many.map((speed) => `${at(speed)} at ${speed.tokens}`)
  return `measured: packed runs ${[`${at(one)} as fast as dense at one stream`, ...parts, `${at(prefill)} in prefill`].join(', ')}`
}
