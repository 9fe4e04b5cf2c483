import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { createMomentProduct, type MomentProduct } from './moment-product.ts'
import { unfoldTriangle } from '../statistics/packed-triangle.ts'
import {
  minExchangeGain,
  computeRowErrors,
  copyPrunedWeights,
  totalError,
  type ExchangeLinear,
} from './exchange.ts'

/** A linear and the mask to refine. */
export interface ExchangeTask {
  rows: number
  cols: number
  /** m of n:m, null for a ratio. */
  group: number | null
  weights: Float32Array
  /** H as {@link ExchangePool.unfold} gave it. */
  moment: SharedMoment
  /** Mask bits `[rows, ceil(cols/8)]`, refined in place. */
  bits: Uint8Array
}

/** H = `Σ x xᵀ / tokens` in full, `[cols, cols]`, where threads see it. */
export type SharedMoment = Float64Array<SharedArrayBuffer>

/** The squared output error, `tr(E H Eᵀ)`, of a mask before and after its refinement. */
export interface ErrorReduction {
  before: number
  after: number
}

/** Threads that refine one linear after another. */
export interface ExchangePool {
  /** Unfolds H from the upper triangle, as statistics hold it, into memory that the next one takes. */
  unfold(triangle: Float64Array, cols: number): SharedMoment
  /** @throws the error of a thread; the pool is then of no more use */
  refine(task: ExchangeTask): Promise<ErrorReduction>
  close(): Promise<void>
}

/** What a thread is asked: to take rows, `next` counts those taken, until there are none, and say so. */
export interface ExchangeMessage {
  linear: ExchangeLinear
  /** The gain that a swap must exceed. */
  floor: number
  next: Int32Array
}

/** What a thread is started with. */
export interface ExchangeThreadData {
  /** Whether the addon does the work where it is built. */
  native: boolean
}

/**
 * Starts threads that share one set of buffers, as large as the largest linear so far: its weights, H in full
 * and E H. The masks do not depend on how many threads there are, nor on whether the addon does the work.
 */
export function createExchangePool(
  threads: number,
  data: ExchangeThreadData = { native: true },
): ExchangePool {
  const pool = Array.from({ length: threads }, () => startThread(data))
  const buffers = new Map<string, SharedArrayBuffer>()
  let product: Promise<MomentProduct> | undefined
  let measuring: Promise<void> = Promise.resolve()

  /** The buffer of this name, at least this long. */
  function buffer(name: string, bytes: number): SharedArrayBuffer {
    let found = buffers.get(name)
    if (!found || found.byteLength < bytes) buffers.set(name, (found = new SharedArrayBuffer(bytes)))
    return found
  }
  const float64 = (name: string, length: number) => new Float64Array(buffer(name, 8 * length), 0, length)

  function share({ rows, cols, group, weights, moment, bits }: ExchangeTask): ExchangeLinear {
    const linear = {
      rows,
      cols,
      group,
      weights: new Float32Array(buffer('weights', 4 * rows * cols), 0, rows * cols),
      moment,
      bits: new Uint8Array(buffer('bits', bits.length), 0, bits.length),
      gradient: float64('gradient', rows * cols),
      errors: float64('errors', rows),
    }
    linear.weights.set(weights)
    linear.bits.set(bits)
    return linear
  }

  /** The gradient by one GEMM, and the errors: almost half of the work if it were done row by row. */
  async function measure(linear: ExchangeLinear): Promise<void> {
    const { rows, cols, moment, gradient } = linear
    // The gradient takes the place of what it is computed from.
    copyPrunedWeights(linear, gradient)
    product ??= createMomentProduct(threads)
    // Of threads that have ended the product is released.
    const ready = await Promise.race([...pool.map(({ ended }) => ended), product])
    await ready.multiply(gradient, moment, gradient, [rows, cols])
    computeRowErrors(linear)
  }

  async function swap(linear: ExchangeLinear): Promise<void> {
    const message: ExchangeMessage = {
      linear,
      floor: minExchangeGain(linear),
      next: new Int32Array(new SharedArrayBuffer(4)),
    }
    await Promise.all(pool.map((thread) => runOnThread(thread, message)))
  }

  return {
    unfold(triangle, cols) {
      const moment = float64('moment', cols * cols)
      unfoldTriangle(triangle, moment, cols)
      return moment
    },
    async refine(task) {
      const linear = share(task)
      measuring = measure(linear)
      await measuring
      const before = totalError(linear.errors)
      await swap(linear)
      task.bits.set(linear.bits)
      return { before, after: totalError(linear.errors) }
    },
    async close() {
      await Promise.all(pool.map(({ worker }) => worker.terminate()))
      await measuring.catch(() => undefined)
      await (await product)?.release()
    },
  }
}

/** A thread, and its end: a promise that only ever rejects. */
interface Thread {
  worker: Worker
  ended: Promise<never>
}

function startThread(workerData: ExchangeThreadData): Thread {
  const worker = new Worker(new URL('./exchange-worker.ts', import.meta.url), { execArgv: [], workerData })
  const { promise: ended, reject } = Promise.withResolvers<never>()
  worker.once('error', reject)
  worker.once('exit', () => reject(new Error('a thread of the mask refinement ended before it was done')))
  // Between two linears nobody waits; the next one is told.
  ended.catch(() => undefined)
  return { worker, ended }
}

async function runOnThread({ worker, ended }: Thread, message: ExchangeMessage): Promise<void> {
  const answered = once(worker, 'message')
  worker.postMessage(message)
  await Promise.race([answered, ended])
}
