import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { createMomentProduct, type MomentProduct } from './moment-product.ts'
import {
  minExchangeGain,
  computeRowErrors,
  copyPrunedWeights,
  totalError,
  type ExchangeLinear,
} from './exchange.ts'
import { createUnfold, type ExchangeRefiner, type ExchangeTask } from './exchange-refiner.ts'

/** The message that makes a thread refine rows of a linear until no row is left. The thread then replies. */
export interface ExchangeMessage {
  linear: ExchangeLinear
  /** The error reduction that an exchange must exceed. */
  floor: number
  /** The first row that no thread has taken, `[1]`; shared and changed atomically. */
  next: Int32Array
}

/** The data that a thread is started with. */
export interface ExchangeThreadData {
  /** Whether to use the native addon if it is built. */
  native: boolean
}

/**
 * Creates the refiner on the processor, a pool of `threads` threads.
 *
 * They share one set of buffers for the weights and E H, as large as the largest linear so far, and read H where it is. The
 * refined masks depend neither on the number of threads nor on whether the addon is used.
 */
export function createExchangePool(
  threads: number,
  data: ExchangeThreadData = { native: true },
): ExchangeRefiner {
  const pool = Array.from({ length: threads }, () => startThread(data))
  const buffers = new Map<string, SharedArrayBuffer>()
  let product: Promise<MomentProduct> | undefined
  let measuring: Promise<void> = Promise.resolve()

  /** Returns the buffer called `name`, and makes a new one if it has fewer than `bytes` bytes. */
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

  /** Computes the gradient by one GEMM, and the errors. Row by row this would be almost half of the work. */
  async function measure(linear: ExchangeLinear): Promise<void> {
    const { rows, cols, moment, gradient } = linear
    // The product overwrites its input.
    copyPrunedWeights(linear, gradient)
    product ??= createMomentProduct(threads)
    // After a thread has ended, `close` may already have released the product.
    const ready = await Promise.race([...pool.map(({ ended }) => ended), product])
    await ready.multiply(gradient, moment, gradient, [rows, cols])
    computeRowErrors(linear)
  }

  async function runExchange(linear: ExchangeLinear): Promise<void> {
    const message: ExchangeMessage = {
      linear,
      floor: minExchangeGain(linear),
      next: new Int32Array(new SharedArrayBuffer(4)),
    }
    await Promise.all(pool.map((thread) => runOnThread(thread, message)))
  }

  return {
    unfold: createUnfold(),
    async refine(task) {
      const linear = share(task)
      measuring = measure(linear)
      await measuring
      const before = totalError(linear.errors)
      await runExchange(linear)
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

interface Thread {
  worker: Worker
  /** Rejects when the thread ends or fails; never fulfils. */
  ended: Promise<never>
}

function startThread(workerData: ExchangeThreadData): Thread {
  const worker = new Worker(new URL('./exchange-worker.ts', import.meta.url), { execArgv: [], workerData })
  const { promise: ended, reject } = Promise.withResolvers<never>()
  worker.once('error', reject)
  worker.once('exit', () => reject(new Error('a thread of the mask refinement ended before it was done')))
  // Between two linears no caller awaits this promise. The next call rejects with its reason.
  ended.catch(() => undefined)
  return { worker, ended }
}

async function runOnThread({ worker, ended }: Thread, message: ExchangeMessage): Promise<void> {
  const answered = once(worker, 'message')
  worker.postMessage(message)
  await Promise.race([answered, ended])
}
