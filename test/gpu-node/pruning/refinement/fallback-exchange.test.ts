import { expect, test } from 'vitest'
import { GpuUnavailableError } from '../../../../gpu-node/src/platform/gpu-addon.ts'
import type {
  ExchangeRefiner,
  ExchangeTask,
} from '../../../../gpu-node/src/pruning/refinement/exchange-refiner.ts'
import { createFallbackExchange } from '../../../../gpu-node/src/pruning/refinement/fallback-exchange.ts'

const task: ExchangeTask = {
  rows: 1,
  cols: 1,
  group: null,
  weights: new Float32Array(1),
  moment: new Float64Array(new SharedArrayBuffer(8)),
  bits: new Uint8Array(1),
}

/** Returns a refiner that fails, or reduces errors from `before` to 0; `calls` lists what it is asked for. */
function refiner(calls: string[], name: string, outcome: Error | number): ExchangeRefiner {
  return {
    unfold: () => {
      throw new Error('no part unfolds by itself')
    },
    async refine() {
      calls.push(`${name} refines`)
      if (outcome instanceof Error) throw outcome
      return { before: outcome, after: 0 }
    },
    async close() {
      calls.push(`${name} closes`)
    },
  }
}

const withCode = (code: string) => Object.assign(new Error(`this is ${code}`), { code })

test.each([
  withCode('DeviceLost'),
  withCode('DeviceUnavailable'),
  withCode('OutOfMemory'),
  new GpuUnavailableError('copal-gpu.node', 'it is not built'),
])('after "$message" the processor refines, and the device is not tried again', async (fault) => {
  const calls: string[] = []
  const faults: Error[] = []
  const exchange = createFallbackExchange(
    refiner(calls, 'device', fault),
    () => refiner(calls, 'processor', 5),
    (found) => faults.push(found),
  )
  expect(await exchange.refine(task)).toEqual({ before: 5, after: 0 })
  await exchange.refine(task)
  await exchange.close()
  expect(calls).toEqual([
    'device refines',
    'device closes',
    'processor refines',
    'processor refines',
    'processor closes',
  ])
  expect(faults).toEqual([fault])
})

test('a device that works is used alone, and a defect is no reason to leave it', async () => {
  const calls: string[] = []
  const over = (outcome: Error | number) =>
    createFallbackExchange(
      refiner(calls, 'device', outcome),
      () => expect.unreachable('the device works'),
      () => expect.unreachable('the device works'),
    )
  expect(await over(3).refine(task)).toEqual({ before: 3, after: 0 })
  await expect(over(withCode('InvalidArg')).refine(task)).rejects.toThrow('this is InvalidArg')
  await expect(over(new TypeError('a bug')).refine(task)).rejects.toThrow('a bug')
  await over(3).close()
  expect(calls).toEqual(['device refines', 'device refines', 'device refines', 'device closes'])
})

test('a moment is unfolded once, whichever refiner takes it', () => {
  const exchange = createFallbackExchange(
    refiner([], 'device', 1),
    () => refiner([], 'processor', 1),
    () => undefined,
  )
  expect([...exchange.unfold(Float64Array.of(1, 2, 3), 2)]).toEqual([1, 2, 2, 3])
})
