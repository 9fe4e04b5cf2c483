import type { Addon, Matrix, Multiplier, Precision } from '@copal/gpu-node/native/addon.d.ts'
import { PRECISIONS } from '@copal/gpu-node/serving/contract/backend.ts'
import { randomBits } from '../models/random-bits.ts'
import { kernelsNamed } from './engine-contender.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'

interface Shape {
  rows: number
  cols: number
  count: number
  /** Whether the matrix stays dense in a pruned model. */
  dense?: boolean
}

/** Which weights are kept: all, a random half, or a random two of every four columns. */
type Form = 'dense' | '50 %' | '2:4'

interface Case {
  kernel: string
  precision: Precision
  form: Form
  tokens: number
  matrices: Matrix[]
  seconds: number[]
  encodeSeconds: number[]
  ofBound: number[]
}

/** Shapes and counts of matrices; together they are too large for any cache even in the smallest form. */
const WORKLOADS = {
  smollm2: {
    title: 'SmolLM2-135M, all linears of a step and the dense head',
    shapes: [
      { rows: 576, cols: 576, count: 60 },
      { rows: 192, cols: 576, count: 60 },
      { rows: 1536, cols: 576, count: 60 },
      { rows: 576, cols: 1536, count: 30 },
      { rows: 49152, cols: 576, count: 1, dense: true },
    ],
  },
  '1b': {
    title: 'two blocks of a model of 1.1B',
    shapes: [
      { rows: 2048, cols: 2048, count: 4 },
      { rows: 256, cols: 2048, count: 4 },
      { rows: 5632, cols: 2048, count: 4 },
      { rows: 2048, cols: 5632, count: 2 },
    ],
  },
  '7b-attention': { title: '12 × [4096, 4096]', shapes: [{ rows: 4096, cols: 4096, count: 12 }] },
  '7b-mlp': { title: '5 × [11008, 4096]', shapes: [{ rows: 11008, cols: 4096, count: 5 }] },
} satisfies Record<string, { title: string; shapes: Shape[] }>
/** The forms of each precision. Only int8 has kernels for 2:4. */
const FORMS = {
  bf16: ['dense', '50 %'],
  int8: ['dense', '50 %', '2:4'],
  int4: ['dense', '50 %'],
} as const satisfies Record<Precision, readonly Form[]>
/** Four bits of a mask with two ones. */
const TWO_OF_FOUR = [3, 5, 6, 9, 10, 12] as const
/** Columns that share a scale, as in the engine. */
const GROUPS = { bf16: 64, int8: 64, int4: 32 } as const satisfies Record<Precision, number>

/** The largest number of columns of a workload. */
const MAX_COLS = 5632

/** The name of a workload. */
export type WorkloadName = keyof typeof WORKLOADS
/** The names of all workloads. */
export const WORKLOAD_NAMES = Object.keys(WORKLOADS) as WorkloadName[]

/** Options of {@link benchKernels}. */
export interface KernelsOptions {
  workloads: readonly WorkloadName[]
  /** Names of kernels to compare; none: that of `COPAL_KERNEL`, or the machine's best. */
  kernels: readonly string[]
  /** Numbers of tokens that are multiplied at a time. */
  batches: readonly number[]
  repetitions: number
  threads: number
  print: (line: string) => void
}

/**
 * Measures native kernels, dense and half pruned, in every precision.
 *
 * A repetition runs every case once, each between two measurements of the memory bandwidth, because on shared machines
 * it changes all the time. "% of the bound" is the time to read the case's bytes at the mean of the two, relative to
 * the time of the case.
 */
export async function benchKernels(addon: Addon, options: KernelsOptions): Promise<void> {
  const { workloads, batches, threads, print } = options
  const multipliers = new Map<string, Multiplier>()
  for (const kernel of kernelsNamed(addon, options.kernels)) {
    const size = { threads, maxTokens: Math.max(...batches), maxCols: MAX_COLS }
    const multiplier = new addon.Multiplier({ kernel, ...size })
    multipliers.set(multiplier.kernel, multiplier)
  }
  print(
    `kernel ${[...multipliers.keys()].join(', ')} of ${addon.kernels().join(', ')}; ${threads} threads; median (min–max, n)`,
  )
  for (const name of workloads) {
    const { title, shapes } = WORKLOADS[name]
    print(`\n${title}`)
    const packed = await pack(addon, shapes, print)
    const cases = batches.flatMap((tokens) =>
      packed.flatMap((matrices) =>
        [...multipliers.keys()].map((kernel) => ({
          ...matrices,
          kernel,
          tokens,
          seconds: [],
          encodeSeconds: [],
          ofBound: [],
        })),
      ),
    )
    report(cases, measure(multipliers, cases, options.repetitions), print)
  }
}

/** Packs the matrices of every precision and form from the same seeded weights and masks. */
async function pack(
  addon: Addon,
  shapes: readonly Shape[],
  print: KernelsOptions['print'],
): Promise<Pick<Case, 'precision' | 'form' | 'matrices'>[]> {
  const draw = randomBits(1)
  const sources = shapes.map((shape) => ({
    ...shape,
    weights: Float32Array.from({ length: shape.rows * shape.cols }, () => draw() * 2 ** -34),
    masks: {
      dense: null,
      '50 %': Uint8Array.from({ length: (shape.rows * shape.cols) / 8 }, () => draw() & 255),
      '2:4': Uint8Array.from(
        { length: (shape.rows * shape.cols) / 8 },
        () => twoOfFour(draw) | (twoOfFour(draw) << 4),
      ),
    },
  }))
  const packed: Pick<Case, 'precision' | 'form' | 'matrices'>[] = []
  for (const precision of PRECISIONS) {
    for (const form of FORMS[precision]) {
      const matrices: Matrix[] = []
      let seconds = 0
      let inputBytes = 0
      for (const { weights, masks, rows, cols, count, dense } of sources) {
        for (let i = 0; i < count; i++) {
          const packing = addon.pack({
            weights,
            rows,
            cols,
            mask: dense ? null : masks[form],
            precision,
            group: GROUPS[precision],
          })
          // Started after the call, which itself only copies the weights.
          const startedMs = performance.now()
          matrices.push(await packing)
          seconds += (performance.now() - startedMs) / 1000
          inputBytes += weights.byteLength
        }
      }
      packed.push({ precision, form, matrices })
      const rate = (inputBytes / seconds / 1e9).toFixed(2)
      print(line(`packing, ${precision} ${form}`, `${rate} GB/s of dense f32, one thread`))
    }
  }
  return packed
}

function twoOfFour(draw: () => number): number {
  return TWO_OF_FOUR[(draw() >>> 0) % TWO_OF_FOUR.length] ?? 0
}

/** Runs every case `repetitions` times, in turn, and returns the bandwidths measured in between. */
function measure(
  multipliers: ReadonlyMap<string, Multiplier>,
  cases: readonly Case[],
  repetitions: number,
): number[] {
  const bandwidths: number[] = []
  const timed = cases.flatMap((one) => {
    const multiplier = multipliers.get(one.kernel)
    return multiplier ? [{ one, multiplier }] : []
  })
  for (const { one, multiplier } of timed) multiplier.timePass(one.matrices, one.tokens)
  const [first] = timed
  if (!first) return bandwidths
  first.multiplier.readBandwidth()
  for (let repetition = 0; repetition < repetitions; repetition++) {
    let before = first.multiplier.readBandwidth()
    for (const { one, multiplier } of timed) {
      const { encodeS, multiplyS } = multiplier.timePass(one.matrices, one.tokens)
      const after = first.multiplier.readBandwidth()
      one.encodeSeconds.push(encodeS)
      one.seconds.push(multiplyS)
      one.ofBound.push(bytesOf(one) / ((before + after) / 2) / multiplyS)
      bandwidths.push(after)
      before = after
    }
  }
  return bandwidths
}

function report(cases: readonly Case[], bandwidths: readonly number[], print: KernelsOptions['print']): void {
  print(line('memory, read by all threads', formatSpread(spread(bandwidths.map((one) => one / 1e9)), 'GB/s')))
  for (const one of cases) {
    const megabytes = (bytesOf(one) / one.tokens / 1e6).toFixed(1)
    print(
      line(
        nameOf(one),
        [
          formatSpread(spread(one.seconds.map((second) => second * 1000)), 'ms', 2),
          `${megabytes} MB per token`,
          formatSpread(spread(one.ofBound.map((share) => share * 100)), '% of the bound', 0),
          `encoding ${(spread(one.encodeSeconds).median * 1000).toFixed(2)} ms`,
        ].join(', '),
      ),
    )
  }
  for (const sparse of cases.filter(({ form }) => form !== 'dense')) {
    const dense = cases.find(
      (one) =>
        one.form === 'dense' &&
        one.kernel === sparse.kernel &&
        one.precision === sparse.precision &&
        one.tokens === sparse.tokens,
    )
    if (!dense) continue
    const ratios = dense.seconds.map((second, index) => second / (sparse.seconds[index] ?? Number.NaN))
    const bytes = (bytesOf(dense) / bytesOf(sparse)).toFixed(2)
    print(line(`dense over ${nameOf(sparse)}`, `${formatSpread(spread(ratios), '×', 2)}, bytes ${bytes} ×`))
  }
}

function nameOf({ kernel, precision, form, tokens }: Case): string {
  return `${kernel}: ${precision} ${form}, batch ${tokens}`
}

function bytesOf({ matrices }: Case): number {
  return matrices.reduce((sum, { bytes }) => sum + bytes, 0)
}
