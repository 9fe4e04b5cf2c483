/** The program of a thread that refines rows of one linear after another. */
import { parentPort, workerData } from 'node:worker_threads'
import { loadNativeIfThere } from '../../platform/native-addon.ts'
import { nativeExchangeRows } from './native-exchange.ts'
import type { ExchangeMessage, ExchangeThreadData } from './exchange-pool.ts'
import { exchangeRows } from './exchange.ts'

/** Rows taken at once: few enough that the threads end together. */
const CHUNK_ROWS = 16

const { native } = workerData as ExchangeThreadData
const addon = native ? loadNativeIfThere() : undefined
const refineRows = addon ? nativeExchangeRows(addon) : exchangeRows

parentPort?.on('message', ({ linear, floor, next }: ExchangeMessage) => {
  for (;;) {
    const first = Atomics.add(next, 0, CHUNK_ROWS)
    if (first >= linear.rows) break
    refineRows(linear, first, Math.min(first + CHUNK_ROWS, linear.rows), floor)
  }
  parentPort?.postMessage('done')
})
