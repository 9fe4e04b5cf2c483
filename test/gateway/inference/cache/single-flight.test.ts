import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { SingleFlight } from '../../../../gateway/src/inference/cache/single-flight.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Starts a flight of `k` by `leader`, with followers, and tells what each hears. */
function fly(leader: string, ...followers: string[]) {
  const flights = new SingleFlight<string>()
  expect(flights.lead('k', leader)).toBe(true)
  const heard = new Map<string, string | undefined>()
  for (const id of followers) {
    expect(flights.lead('k', id)).toBe(false)
    void flights.follow('k', id).then((answer) => heard.set(id, answer))
  }
  const told = async () => {
    await vi.advanceTimersByTimeAsync(0)
    return Object.fromEntries(heard)
  }
  return { flights, told }
}

test('who waits is given the answer, and the next is to make its own', async () => {
  const { flights, told } = fly('a', 'b', 'c')
  expect(flights.lead('other', 'b')).toBe(true)
  expect(await told()).toEqual({})
  flights.landed('k', 'answer')
  expect(await told()).toEqual({ b: 'answer', c: 'answer' })
  expect(flights.lead('k', 'd')).toBe(true)
})

test('asked again, who makes an answer still makes it', () => {
  const { flights } = fly('a')
  expect(flights.lead('k', 'a')).toBe(true)
})

test('where the first fails each makes its own; where it only left, the next makes it for the others', async () => {
  const failed = fly('a', 'b', 'c')
  failed.flights.leave('k', 'a', 'failed')
  expect(await failed.told()).toEqual({ b: undefined, c: undefined })
  const left = fly('a', 'b', 'c')
  left.flights.leave('k', 'a', 'left')
  expect(await left.told()).toEqual({ b: undefined })
  left.flights.landed('k', 'of b')
  expect(await left.told()).toEqual({ b: undefined, c: 'of b' })
})

test('who leaves while it waits is waited for by nobody', async () => {
  const { flights, told } = fly('a', 'b', 'c')
  flights.leave('k', 'b', 'left')
  flights.leave('k', 'a', 'left')
  expect(await told()).toEqual({ b: undefined, c: undefined })
  flights.leave('k', 'c', 'left')
  expect(flights.lead('k', 'd')).toBe(true)
})

test('who came too late to wait makes its own', async () => {
  const { flights } = fly('a')
  flights.leave('k', 'a', 'failed')
  expect(await flights.follow('k', 'b')).toBeUndefined()
  expect(flights.lead('k', 'c')).toBe(false)
})

test('nobody waits for longer than a minute, nor for two seconds after a stream that was not kept', async () => {
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
