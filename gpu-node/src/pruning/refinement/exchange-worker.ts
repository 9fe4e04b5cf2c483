/** The program of a thread that refines rows of one linear after another. */
import { parentPort, workerData } from 'node:worker_threads'
import { loadNativeIfThere } from '../../platform/native-addon.ts'
import { nativeSwapRows } from './native-exchange.ts'
import type { SwapMessage, SwapThreadData } from './exchange-pool.ts'
import { swapRows } from './exchange.ts'

/** Rows taken at once: few enough that the threads end together. */
const CHUNK_ROWS = 16

const { native } = workerData as SwapThreadData
const addon = native ? loadNativeIfThere() : undefined
const refineRows = addon ? nativeSwapRows(addon) : swapRows

parentPort?.on('message', ({ linear, floor, next }: SwapMessage) => {
  for (;;) {
    const first = Atomics.add(next, 0, CHUNK_ROWS)
    if (first >= linear.rows) break
    refineRows(linear, first, Math.min(first + CHUNK_ROWS, linear.rows), floor)
  }
  parentPort?.postMessage('done')
})
