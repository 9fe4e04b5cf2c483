import type { Addon, Matrix, Multiplier, PassTime, Precision } from '@copal/gpu-node/native/addon.d.ts'
import { PRECISIONS } from '@copal/gpu-node/serving/contract/backend.ts'
import { randomBits } from '../models/random-bits.ts'
import { formatSpread, line, spread } from '../measurement/report.ts'

interface Shape {
  rows: number
  cols: number
  count: number
  /** Whether the matrix stays dense in a pruned model. */
  dense?: boolean
}

interface Case {
  precision: Precision
  sparse: boolean
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
  '7b-attention': { title: '12 × [4096, 4096]', shapes: [{ rows: 4096, cols: 4096, count: 12 }] },
  '7b-mlp': { title: '5 × [11008, 4096]', shapes: [{ rows: 11008, cols: 4096, count: 5 }] },
} satisfies Record<string, { title: string; shapes: Shape[] }>
const BATCHES = [1, 8]
/** Columns that share a scale, as in the engine. */
const GROUPS = { bf16: 64, int8: 64, int4: 32 } as const satisfies Record<Precision, number>

/** Bytes that the addon reads to measure the bandwidth. */
const BANDWIDTH_BYTES = 2 ** 28

/** The name of a workload. */
export type WorkloadName = keyof typeof WORKLOADS
/** The names of all workloads. */
export const WORKLOAD_NAMES = Object.keys(WORKLOADS) as WorkloadName[]

/** Options of {@link benchKernels}. */
export interface KernelsOptions {
  workloads: readonly WorkloadName[]
  repetitions: number
  /** 1 when processor time is measured. */
  threads: number
  /** Whether to measure the processor time of this thread instead of elapsed time, for busy machines. */
  isProcessorTime: boolean
  print: (line: string) => void
}

/**
 * Measures the native kernels, dense and half pruned, in every precision. `COPAL_KERNEL` selects a kernel.
 *
 * A repetition runs every case once, each between two measurements of the memory bandwidth, because on shared machines
 * it changes all the time. "% of the bound" is the time to read the case's bytes at the mean of the two, relative to
 * the time of the case.
 */
export async function benchKernels(addon: Addon, options: KernelsOptions): Promise<void> {
  const { workloads, threads, isProcessorTime, print } = options
  const multiplier = new addon.Multiplier({
    kernel: process.env.COPAL_KERNEL || null,
    threads,
    maxTokens: Math.max(...BATCHES),
    maxCols: 4096,
  })
  print(
    `kernel ${multiplier.kernel} of ${addon.kernels().join(', ')}; ${threads} threads; median (min–max, n)${isProcessorTime ? ' of processor time' : ''}`,
  )
  for (const name of workloads) {
    const { title, shapes } = WORKLOADS[name]
    print(`\n${title}`)
    const cases = await pack(addon, shapes, print)
    report(cases, measure(createClock(multiplier, isProcessorTime), cases, options.repetitions), print)
  }
}

/** Packs the matrices of every case from the same seeded weights and a mask of one half. */
async function pack(addon: Addon, shapes: readonly Shape[], print: KernelsOptions['print']): Promise<Case[]> {
  const draw = randomBits(1)
  const sources = shapes.map((shape) => ({
    ...shape,
    weights: Float32Array.from({ length: shape.rows * shape.cols }, () => draw() * 2 ** -34),
    mask: Uint8Array.from({ length: (shape.rows * shape.cols) / 8 }, () => draw() & 255),
  }))
  const packed = new Map<string, Matrix[]>()
  for (const precision of PRECISIONS) {
    for (const sparse of [false, true]) {
      const matrices: Matrix[] = []
      let seconds = 0
      let inputBytes = 0
      for (const { weights, mask, rows, cols, count, dense } of sources) {
        for (let i = 0; i < count; i++) {
          const packing = addon.pack({
            weights,
            rows,
            cols,
            mask: sparse && !dense ? mask : null,
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
      packed.set(`${precision} ${sparse}`, matrices)
      const rate = (inputBytes / seconds / 1e9).toFixed(2)
      print(
        line(`packing, ${precision} ${sparse ? 'sparse' : 'dense'}`, `${rate} GB/s of dense f32, one thread`),
      )
    }
  }
  return PRECISIONS.flatMap((precision) =>
    BATCHES.flatMap((tokens) =>
      [false, true].map((sparse) => ({
        precision,
        sparse,
        tokens,
        matrices: packed.get(`${precision} ${sparse}`) ?? [],
        seconds: [],
        encodeSeconds: [],
        ofBound: [],
      })),
    ),
  )
}

/** Runs every case `repetitions` times, in turn, and returns the bandwidths measured in between. */
function measure(clock: Clock, cases: readonly Case[], repetitions: number): number[] {
  const bandwidths: number[] = []
  for (const one of cases) clock.pass(one)
  clock.bandwidth()
  for (let repetition = 0; repetition < repetitions; repetition++) {
    let before = clock.bandwidth()
    for (const one of cases) {
      const { encodeS, multiplyS } = clock.pass(one)
      const after = clock.bandwidth()
      one.encodeSeconds.push(encodeS)
      one.seconds.push(multiplyS)
      one.ofBound.push(bytesOf(one) / ((before + after) / 2) / multiplyS)
      bandwidths.push(after)
      before = after
    }
  }
  return bandwidths
}

/** Measures elapsed time or the processor time of this thread. */
interface Clock {
  /** Runs a case; with processor time, `multiplyS` has both times together. */
  pass(one: Case): PassTime
  /** Measures the memory bandwidth in bytes per second. */
  bandwidth(): number
}

function createClock(on: Multiplier, isProcessorTime: boolean): Clock {
  if (!isProcessorTime) {
    return {
      pass: ({ matrices, tokens }) => on.timePass(matrices, tokens),
      bandwidth: () => on.readBandwidth(),
    }
  }
  return {
    pass: ({ matrices, tokens }) => ({
      encodeS: 0,
      multiplyS: processorSeconds(() => void on.timePass(matrices, tokens)),
    }),
    bandwidth: () => BANDWIDTH_BYTES / processorSeconds(() => on.readBandwidth()),
  }
}

function processorSeconds(work: () => void): number {
  const before = process.threadCpuUsage()
  work()
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1e6
}

function report(cases: readonly Case[], bandwidths: readonly number[], print: KernelsOptions['print']): void {
  print(line('memory, read by all threads', formatSpread(spread(bandwidths.map((one) => one / 1e9)), 'GB/s')))
  for (const one of cases) {
    const megabytes = (bytesOf(one) / one.tokens / 1e6).toFixed(1)
    print(
      line(
        `${one.precision} ${one.sparse ? '50 %' : 'dense'}, batch ${one.tokens}`,
        [
          formatSpread(spread(one.seconds.map((second) => second * 1000)), 'ms', 2),
          `${megabytes} MB per token`,
          formatSpread(spread(one.ofBound.map((share) => share * 100)), '% of the bound', 0),
          `encoding ${(spread(one.encodeSeconds).median * 1000).toFixed(2)} ms`,
        ].join(', '),
      ),
    )
  }
  for (const sparse of cases.filter((one) => one.sparse)) {
    const dense = cases.find(
      (one) => !one.sparse && one.precision === sparse.precision && one.tokens === sparse.tokens,
    )
    if (!dense) continue
    const ratios = dense.seconds.map((second, index) => second / (sparse.seconds[index] ?? Number.NaN))
    const bytes = (bytesOf(dense) / bytesOf(sparse)).toFixed(2)
    print(
      line(
        `${sparse.precision} dense over 50 %, batch ${sparse.tokens}`,
        `${formatSpread(spread(ratios), '×', 2)}, bytes ${bytes} ×`,
      ),
    )
  }
}

function bytesOf({ matrices }: Case): number {
  return matrices.reduce((sum, { bytes }) => sum + bytes, 0)
}
