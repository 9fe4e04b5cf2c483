import { expect, test } from 'vitest'
import { heartbeat } from '@copal/shared/wire/heartbeat.ts'

test('a heartbeat may leave out the methods of its node; those that it names are checked', () => {
  const beat = {
    nodeId: 'n',
    url: 'http://127.0.0.1:1',
    draining: false,
    model: { id: 'tiny', baseSha256: 'a'.repeat(64), contextLength: 1, parameters: 1 },
    activeVersion: 0,
    weightSets: [],
    load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 0 },
    requests: [],
    jobs: [],
  }
  expect(heartbeat.parse(beat).methods).toBeUndefined()
  expect(heartbeat.parse({ ...beat, methods: ['copal+swaps'] }).methods).toEqual(['copal+swaps'])
  expect(heartbeat.safeParse({ ...beat, methods: ['Copal'] }).success).toBe(false)
})
