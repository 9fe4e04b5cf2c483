import { expect, test } from 'vitest'
import { parseStat, usageOf } from '../../../../gpu-node/bench/gateways/processes.ts'

test('a name in brackets that looks like fields is not parsed as fields', () => {
  const stat =
    '42 (a) R 1 (b) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 11 0 900 999 256 18446744073709551615'
  expect(parseStat(stat)).toEqual({ processorMs: 2000, residentBytes: 256 * 4096 })
})

test.runIf(process.platform === 'linux')('a process that works has used more of the processor', () => {
  const before = usageOf([process.pid])
  // Not until a time: on a busy machine other processes may run all the while.
  const atStart = process.cpuUsage()
  while (process.cpuUsage(atStart).user < 100_000);
  const after = usageOf([process.pid])
  expect((after?.processorMs ?? 0) - (before?.processorMs ?? 0)).toBeGreaterThan(0)
  expect(after?.residentBytes).toBeGreaterThan(1e6)
})

test('an ended process has no usage', () => {
  expect(usageOf([2 ** 30])).toBeUndefined()
})
