/**
 * `node gpu-node/bench/kernels.ts [--only smollm2] [--repetitions 15] [--threads 2] [--processor-time]`: what the
 * native kernels take, dense against half pruned, in every precision. `COPAL_KERNEL` forces a kernel.
 *
 * `--processor-time` is for busy machines: one thread, whose processor time counts and not what the clock says.
 *
 * Everything is interleaved: a repetition runs every case once, each between two measurements of the memory's
 * bandwidth, because shared machines change it from one moment to the next. "Of the bound" is the time that
 * the case's bytes take at the mean of the two, over the time that the case took.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import type { Matrix, Multiplier, Precision } from '../native/addon.d.ts'
import { loadNative } from '../src/backends/sparse/native.ts'
import { randomBits } from './random-model.ts'
import { formatSpread, line, machineLine, spread } from './report.ts'

interface Shape {
  rows: number
  cols: number
  count: number
  /** Whether it stays dense in a pruned model. */
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

/** So many of a shape that no cache holds what is left of it in the smallest form. */
const WORKLOADS: Record<string, { title: string; shapes: Shape[] }> = {
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
}
const PRECISIONS: Precision[] = ['bf16', 'int8', 'int4']
const BATCHES = [1, 8]
const GROUP = 64

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    repetitions: { type: 'string', default: '15' },
    threads: { type: 'string', default: String(availableParallelism()) },
    'processor-time': { type: 'boolean', default: false },
  },
})
const names = values.only === undefined ? Object.keys(WORKLOADS) : [values.only]
const repetitions = Number(values.repetitions)
const isProcessorTime = values['processor-time']
const threads = isProcessorTime ? 1 : Number(values.threads)
/** What the addon reads to measure the bandwidth. */
const BANDWIDTH_BYTES = 2 ** 28
const addon = loadNative()
const multiplier = new addon.Multiplier(process.env.COPAL_KERNEL || null, threads, Math.max(...BATCHES), 4096)

print(machineLine())
print(
  `kernel ${multiplier.kernel} of ${addon.kernels().join(', ')}; ${threads} threads; median (min–max, n)${isProcessorTime ? ' of processor time' : ''}`,
)
for (const name of names) {
  const workload = WORKLOADS[name]
  if (!workload) throw new Error(`unknown workload '${name}'; there are ${Object.keys(WORKLOADS).join(', ')}`)
  print(`\n${workload.title}`)
  const cases = await pack(workload.shapes)
  report(cases, measure(multiplier, cases))
}

/** Every case's matrices, from the same seeded weights and a mask of one half. */
async function pack(shapes: Shape[]): Promise<Case[]> {
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
          const packing = addon.pack(weights, rows, cols, sparse && !dense ? mask : null, precision, GROUP)
          // What the call itself took was the copy.
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

/** Runs every case `repetitions` times, in turn, and returns the bandwidths that were measured between. */
function measure(on: Multiplier, cases: Case[]): number[] {
  const bandwidths: number[] = []
  for (const { matrices, tokens } of cases) on.timePass(matrices, tokens)
  readBandwidth(on)
  for (let repetition = 0; repetition < repetitions; repetition++) {
    let before = readBandwidth(on)
    for (const one of cases) {
      const [encodeS, multiplyS] = timePass(on, one)
      const after = readBandwidth(on)
      one.encodeSeconds.push(encodeS)
      one.seconds.push(multiplyS)
      one.ofBound.push(bytesOf(one) / ((before + after) / 2) / multiplyS)
      bandwidths.push(after)
      before = after
    }
  }
  return bandwidths
}

/** Seconds of encoding and of multiplying; of the processor both together, as the latter. */
function timePass(on: Multiplier, { matrices, tokens }: Case): [encodeS: number, multiplyS: number] {
  if (!isProcessorTime) return on.timePass(matrices, tokens)
  return [0, processorSeconds(() => on.timePass(matrices, tokens))]
}

function readBandwidth(on: Multiplier): number {
  if (!isProcessorTime) return on.readBandwidth()
  return BANDWIDTH_BYTES / processorSeconds(() => on.readBandwidth())
}

function processorSeconds(work: () => void): number {
  const before = process.threadCpuUsage()
  work()
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1e6
}

function report(cases: Case[], bandwidths: number[]): void {
  print(line('memory, read by all threads', formatSpread(spread(bandwidths.map((one) => one / 1e9)), 'GB/s')))
  for (const one of cases) {
    const megabytes = (bytesOf(one) / one.tokens / 1e6).toFixed(1)
    print(
      line(
        `${one.precision} ${one.sparse ? '50 %' : 'dense'}, batch ${one.tokens}`,
        [
          formatSpread(spread(one.seconds.map((second) => second * 1000)), 'ms', 2),
          `${megabytes} MB a token`,
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

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}
