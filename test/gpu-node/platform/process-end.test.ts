import { expect, test } from 'vitest'
import { createProcessEnd } from '../../../gpu-node/src/platform/process-end.ts'

function setup() {
  const events: string[] = []
  const stopping = Promise.withResolvers<boolean>()
  const exited = Promise.withResolvers<number>()
  const processEnd = createProcessEnd({
    stop(why, maxGraceMs) {
      events.push(`stop for ${why} within ${maxGraceMs} ms`)
      return stopping.promise
    },
    onFailure: (reason) => void events.push(`failure: ${reason}`),
    exit: (code) => exited.resolve(code),
  })
  return { processEnd, events, stopping, exited: exited.promise }
}

test('a planned stop exits with 0, also if something fails while it runs', async () => {
  const { processEnd, events, stopping, exited } = setup()
  void processEnd.end('SIGTERM', 5000)
  expect(processEnd.isEnding()).toBe(true)
  processEnd.fail('the GPU was lost')
  stopping.resolve(true)
  expect(await exited).toBe(0)
  expect(events).toEqual(['stop for SIGTERM within 5000 ms'])
})

test('a failure stops the process once, and exits with 1', async () => {
  const { processEnd, events, stopping, exited } = setup()
  processEnd.fail('the GPU was lost')
  processEnd.fail('again')
  void processEnd.end('SIGTERM', 5000)
  expect(processEnd.exitCode()).toBe(1)
  stopping.resolve(true)
  expect(await exited).toBe(1)
  expect(events).toEqual(['failure: the GPU was lost', 'stop for a failure within 0 ms'])
})
