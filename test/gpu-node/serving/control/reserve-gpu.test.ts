import { expect, test } from 'vitest'
import { LLAMA_2_7B } from '../../../support/models/llama-2-7b.ts'
import { deviceCalibrationBytes } from '../../../../gpu-node/src/pruning/calibration/device-memory.ts'
import { createGpuReservation } from '../../../../gpu-node/src/serving/control/reserve-gpu.ts'

/** H of the widest linear, and two values for each of its weights. */
const EXCHANGE_BYTES = 4 * 11_008 ** 2 + 8 * 11_008 * 4096
/** What weights, keys and values leave. */
const FREE_BYTES = 1e8

function setup() {
  const reserved: number[] = []
  const kept: (number | undefined)[] = []
  const swap = {
    reserve(bytes: number) {
      reserved.push(bytes)
      return Promise.resolve((keepBytes?: number) => void kept.push(keepBytes))
    },
  }
  const reserve = createGpuReservation(LLAMA_2_7B, { freeBytes: FREE_BYTES, kvTokens: 0 }, swap)
  const { signal } = new AbortController()
  const jobOf = (method: string) => ({
    length: 512,
    selection: { method, pattern: '0.5', scope: 'row' as const },
  })
  const reserveFor = (method: string, calibrates: boolean) => reserve(jobOf(method), calibrates, signal)
  return { reserveFor, reserved, kept }
}

test('an update takes the memory that its method and its missing statistics need', async () => {
  const { reserveFor, reserved } = setup()
  const needed = (statistics: 'all' | 'moments') =>
    deviceCalibrationBytes(LLAMA_2_7B, 512, statistics) - FREE_BYTES
  await reserveFor('copal+swaps', true)
  await reserveFor('wanda', true)
  expect(reserved).toEqual([needed('all'), needed('moments')])
  expect(needed('moments')).toBeLessThan(needed('all') - 8e8)
})

test('an update that calibrates nothing takes the memory of its exchanges, or none', async () => {
  const { reserveFor, reserved } = setup()
  await reserveFor('copal+swaps', false)
  expect(reserved).toEqual([EXCHANGE_BYTES - FREE_BYTES])
  const leave = await reserveFor('wanda', false)
  leave?.()
  expect(reserved).toHaveLength(1)
})

test('an update keeps what the rest of its work needs beside the memory that is free anyway', async () => {
  const { reserveFor, kept } = setup()
  const leave = await reserveFor('copal+swaps', true)
  leave?.(EXCHANGE_BYTES)
  leave?.(FREE_BYTES)
  leave?.()
  expect(kept).toEqual([EXCHANGE_BYTES - FREE_BYTES, 0, 0])
})
