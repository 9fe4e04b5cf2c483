import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createTrafficWatch } from '../../../../gpu-node/src/serving/control/traffic-watch.ts'

test('a node is busy from its first request until a while after its last one', async () => {
  let requests = 0
  const states: boolean[] = []
  const end = createTrafficWatch(() => requests, 300).subscribe((isBusy) => states.push(isBusy))
  expect(states).toEqual([false])
  requests = 2
  await expect.poll(() => states).toEqual([false, true])
  // A gap between requests.
  requests = 0
  await sleep(120)
  requests = 1
  await sleep(120)
  requests = 0
  await sleep(200)
  expect(states).toEqual([false, true])
  await expect.poll(() => states).toEqual([false, true, false])
  end()
  requests = 1
  await sleep(150)
  expect(states).toHaveLength(3)
})
