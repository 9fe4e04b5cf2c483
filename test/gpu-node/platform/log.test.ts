import { expect, test } from 'vitest'
import { createLog, reasonOf } from '../../../gpu-node/src/platform/log.ts'

const AT_MS = Date.UTC(2026, 10, 25, 12, 30, 5)

test('json lines are one object each', () => {
  const lines: string[] = []
  const log = createLog({ format: 'json', write: (line) => lines.push(line), nowMs: () => AT_MS })
  log.warn('gateway lost', { reason: 'a\nb', code: 7 })
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
    { time: '2026-11-25T12:30:05.000Z', level: 'warn', message: 'gateway lost', reason: 'a\nb', code: 7 },
  ])
})

test('plain lines quote text, so that an event is one line', () => {
  const lines: string[] = []
  const log = createLog({ format: 'plain', write: (line) => lines.push(line), nowMs: () => AT_MS })
  log.info('job done', { id: 'a\nb', tookMs: 5, extra: undefined })
  log.error('job failed')
  expect(lines).toEqual(['12:30:05 job done id="a\\nb" tookMs=5', '12:30:05 error job failed'])
})

test('a reason has the messages of the causes once each, and no stack', () => {
  const error = new Error('fetch failed', {
    cause: new Error('connect\nrefused', { cause: new Error('fetch failed') }),
  })
  expect(reasonOf(error)).toBe('fetch failed: connect refused')
  const sentence = new Error('Start again.', { cause: new Error('no route') })
  expect(reasonOf(sentence)).toBe('Start again. Cause: no route')
  expect(reasonOf({ code: 7 })).toBe('{ code: 7 }')
})
