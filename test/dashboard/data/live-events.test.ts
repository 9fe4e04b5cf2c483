import { expect, test } from 'vitest'
import { receiveEvents } from '../../../gateway/dashboard/src/data/live-events.ts'

/** Connections whose events are sent by hand, and timers that run by hand. */
function connections() {
  const opened: { isClosed: boolean; listeners: Map<string, (event: { data?: unknown }) => void> }[] = []
  let timer: { callback: () => void; ms: number } | undefined
  const events: unknown[] = []
  const states: boolean[] = []
  const stop = receiveEvents('/events', ['overview', 'heartbeat'], {
    open: () => {
      const connection = {
        isClosed: false,
        listeners: new Map<string, (event: { data?: unknown }) => void>(),
      }
      opened.push(connection)
      return {
        addEventListener: (type, listener) => connection.listeners.set(type, listener),
        close: () => {
          connection.isClosed = true
        },
      }
    },
    onEvent: (name, data) => events.push([name, data]),
    onChange: (isLive) => states.push(isLive),
    setTimer: (callback, ms) => {
      timer = { callback, ms }
      return timer
    },
    clearTimer: (cleared) => {
      if (cleared === timer) timer = undefined
    },
  })
  return {
    opened,
    events,
    states,
    stop,
    send: (type: string, data?: unknown) => opened.at(-1)?.listeners.get(type)?.({ data }),
    /** Runs the timer that is set, and returns its delay in milliseconds. */
    pass: () => {
      const due = timer
      timer = undefined
      due?.callback()
      return due?.ms
    },
  }
}

test('events are parsed and make the page live', () => {
  const { events, states, send } = connections()
  send('open')
  expect(states).toEqual([])
  send('overview', '{"at":1}')
  expect(events).toEqual([['overview', { at: 1 }]])
  expect(states).toEqual([true])
})

test('a stream that the gateway ends is followed by another one, and the page stays live', () => {
  const { opened, states, send } = connections()
  send('heartbeat', '{}')
  send('end', '{}')
  expect(opened.map(({ isClosed }) => isClosed)).toEqual([true, false])
  send('overview', '{}')
  expect(states).toEqual([true])
})

test('a connection that breaks is opened again, later and later, until events come', () => {
  const { opened, states, send, pass } = connections()
  send('heartbeat', '{}')
  send('error')
  expect([opened[0]?.isClosed, states]).toEqual([true, [true, false]])
  expect(pass()).toBe(1_000)
  send('error')
  expect(pass()).toBe(2_000)
  send('heartbeat', '{}')
  send('error')
  expect(pass()).toBe(1_000)
  expect(opened).toHaveLength(4)
})

test('a connection that falls silent is broken', () => {
  const { opened, states, send, pass } = connections()
  send('heartbeat', '{}')
  expect(pass()).toBe(20_000)
  expect([opened[0]?.isClosed, states.at(-1)]).toEqual([true, false])
})

test('late events of a closed connection are left out', () => {
  const { opened, events, stop } = connections()
  stop()
  opened[0]?.listeners.get('overview')?.({ data: '{}' })
  expect([events, opened[0]?.isClosed]).toEqual([[], true])
})
