/** The program of a thread of an exchange pool: refines rows of one linear at a time. */
import { parentPort, workerData } from 'node:worker_threads'
import { loadNativeIfThere } from '../../platform/native-addon.ts'
import { nativeExchangeRows } from './native-exchange.ts'
import type { ExchangeMessage, ExchangeThreadData } from './exchange-pool.ts'
import { exchangeRows } from './exchange.ts'

/** Rows that a thread takes at a time: few, so that all threads finish at about the same time. */
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
