import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { SingleFlight } from '../../../../gateway/src/inference/cache/single-flight.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Starts a flight of `k` by `leader` with followers; `told()` returns what each follower received. */
function fly(leader: string, ...followers: string[]) {
  const flights = new SingleFlight<string>()
  expect(flights.lead('k', leader)).toBe(true)
  const received = new Map<string, string | undefined>()
  for (const id of followers) {
    expect(flights.lead('k', id)).toBe(false)
    void flights.follow('k', id).then((response) => received.set(id, response))
  }
  const told = async () => {
    await vi.advanceTimersByTimeAsync(0)
    return Object.fromEntries(received)
  }
  return { flights, told }
}

test('followers get the response, and the next request leads', async () => {
  const { flights, told } = fly('a', 'b', 'c')
  expect(flights.lead('other', 'b')).toBe(true)
  expect(await told()).toEqual({})
  flights.complete('k', 'answer')
  expect(await told()).toEqual({ b: 'answer', c: 'answer' })
  expect(flights.lead('k', 'd')).toBe(true)
})

test('a leader that asks again still leads', () => {
  const { flights } = fly('a')
  expect(flights.lead('k', 'a')).toBe(true)
})

test('if the leader fails every follower runs by itself; if it only left, the first follower leads the others', async () => {
  const failed = fly('a', 'b', 'c')
  failed.flights.leave('k', 'a', 'failed')
  expect(await failed.told()).toEqual({ b: undefined, c: undefined })
  const left = fly('a', 'b', 'c')
  left.flights.leave('k', 'a', 'left')
  expect(await left.told()).toEqual({ b: undefined })
  left.flights.complete('k', 'of b')
  expect(await left.told()).toEqual({ b: undefined, c: 'of b' })
})

test('a follower that left never becomes the leader', async () => {
  const { flights, told } = fly('a', 'b', 'c')
  flights.leave('k', 'b', 'left')
  flights.leave('k', 'a', 'left')
  expect(await told()).toEqual({ b: undefined, c: undefined })
  flights.leave('k', 'c', 'left')
  expect(flights.lead('k', 'd')).toBe(true)
})

test('a request that follows after the leader failed leads itself', async () => {
  const { flights } = fly('a')
  flights.leave('k', 'a', 'failed')
  expect(await flights.follow('k', 'b')).toBeUndefined()
  expect(flights.lead('k', 'c')).toBe(false)
})

test('followers wait for a minute at most, and two seconds after a stream that was not stored', async () => {
  const silent = fly('a', 'b')
  await vi.advanceTimersByTimeAsync(59_999)
  expect(await silent.told()).toEqual({})
  await vi.advanceTimersByTimeAsync(1)
  expect(await silent.told()).toEqual({ b: undefined })
  const streamed = fly('a', 'b')
  streamed.flights.leave('k', 'a', 'whole')
  await vi.advanceTimersByTimeAsync(1_999)
  expect(await streamed.told()).toEqual({})
  await vi.advanceTimersByTimeAsync(1)
  expect(await streamed.told()).toEqual({ b: undefined })
})
