/** The program of a thread that refines rows of one linear after another. */
import { parentPort } from 'node:worker_threads'
import type { SwapMessage } from './swap-pool.ts'
import { swapRows } from './swaps.ts'

/** Rows taken at once: few enough that the threads end together. */
const CHUNK_ROWS = 16

parentPort?.on('message', ({ linear, floor, next }: SwapMessage) => {
  for (;;) {
    const first = Atomics.add(next, 0, CHUNK_ROWS)
    if (first >= linear.rows) break
    swapRows(linear, first, Math.min(first + CHUNK_ROWS, linear.rows), floor)
  }
  parentPort?.postMessage('done')
})
