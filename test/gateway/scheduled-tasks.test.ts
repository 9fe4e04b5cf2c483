/** Tests how the tasks of a cron trigger share the calls of its event. */
import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { sql } from 'drizzle-orm'
import { expect, onTestFinished, test, vi } from 'vitest'
import { EVENT_CALLS } from '../../gateway/src/calls/call-budget.ts'
import type { Deps } from '../../gateway/src/contracts/bindings.ts'
import { createDeps } from '../../gateway/src/deps.ts'
import { runTasks, type ScheduledTasks } from '../../gateway/src/scheduled-tasks.ts'
import { countCalls } from './support/state/counted-calls.ts'

const MINUTE_MS = 60_000
const counted = countCalls(env)
const eventDeps = () => createDeps(counted.bindings, createExecutionContext())
const readD1 = (deps: Deps) => deps.db.run(sql`select 1`)
/** Makes several calls at once, each of which counts. */
const readBatch = async (deps: Deps, calls: number): Promise<void> => {
  await deps.db.batch([readD1(deps), ...Array.from({ length: calls - 1 }, () => readD1(deps))])
}
/** Asks for calls of another service, time after time, until it gets none. */
const readAll = async (deps: Deps): Promise<never> => {
  for (;;) {
    await readBatch(deps, 8)
    await deps.reservoir('a').stats()
    await deps.artifacts.head('nothing')
  }
}

function silenceConsole() {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => {
    warn.mockRestore()
    error.mockRestore()
  })
  return { warn, error }
}

test('a task that calls D1 alone ends with the warning when its share is used up, and with no error', async () => {
  const { warn, error } = silenceConsole()
  const readForever = async (deps: Deps): Promise<never> => {
    while (deps.calls.left > 100) await readBatch(deps, 50)
    for (;;) await readD1(deps)
  }
  await runTasks(eventDeps(), { periodMs: MINUTE_MS, sequential: {}, together: { readForever } }, 0)
  expect(warn.mock.calls).toEqual([
    ["The cron task 'readForever' has used its share of the calls of an event; the next run goes on."],
  ])
  expect(error).not.toHaveBeenCalled()
})

test('a task that always wants everything takes nothing from what another needs, and the event stays below its calls', async () => {
  const { warn, error } = silenceConsole()
  let done = 0
  let left = 200
  const tasks: ScheduledTasks = {
    periodMs: MINUTE_MS,
    sequential: { greedyFirst: readAll },
    together: {
      greedy: readAll,
      // Has 200 things to do, each of 20 calls.
      async modest(deps) {
        while (left > 0 && deps.calls.left >= 20) {
          await readBatch(deps, 20)
          left -= 1
          done += 1
        }
      },
      greedyLast: readAll,
    },
  }
  const perEvent: number[] = []
  for (let minute = 0; minute < 4; minute += 1) {
    counted.take()
    done = 0
    await runTasks(eventDeps(), tasks, minute * MINUTE_MS)
    expect(counted.take().all).toBeLessThanOrEqual(EVENT_CALLS)
    perEvent.push(done)
  }
  // A quarter of one half in each event, and the other half too in its turn.
  const share = Math.floor(EVENT_CALLS / 2 / 4 / 20)
  expect(Math.min(...perEvent)).toBeGreaterThanOrEqual(share)
  expect(perEvent[2]).toBeGreaterThanOrEqual(EVENT_CALLS / 2 / 20)
  expect(warn).toHaveBeenCalledWith(
    "The cron task 'greedy' has used its share of the calls of an event; the next run goes on.",
  )
  expect(error).not.toHaveBeenCalled()
})

test('a task that fails each time takes its own share alone, and is tried again in each event', async () => {
  const { error } = silenceConsole()
  let attempts = 0
  let reads = 0
  const tasks: ScheduledTasks = {
    periodMs: MINUTE_MS,
    sequential: {},
    together: {
      async failing(deps) {
        attempts += 1
        for (let call = 0; call < 30; call += 1) await readD1(deps)
        throw new Error('This part of the service is down.')
      },
      async other(deps) {
        for (reads = 0; deps.calls.left > 0; reads += 1) await readD1(deps)
      },
    },
  }
  for (let minute = 0; minute < 2; minute += 1) {
    await runTasks(eventDeps(), tasks, minute * MINUTE_MS)
    // All but the calls of the failed attempt, once that has ended.
    expect(reads).toBeGreaterThanOrEqual(EVENT_CALLS / 4)
    expect(reads).toBeLessThanOrEqual(EVENT_CALLS - 30)
  }
  expect(attempts).toBe(2)
  expect(error).toHaveBeenCalledTimes(2)
})

test('calls of every service are counted, each statement of a batch too', async () => {
  const lefts: number[] = []
  const tasks: ScheduledTasks = {
    periodMs: MINUTE_MS,
    sequential: {
      async all(deps) {
        const used = async (work: () => Promise<unknown>) => {
          const before = deps.calls.left
          await work()
          lefts.push(before - deps.calls.left)
        }
        await used(() => readD1(deps))
        await used(() => deps.db.batch([deps.db.run(sql`select 1`), deps.db.run(sql`select 2`)]))
        await used(() => deps.artifacts.list({ limit: 1 }))
        await used(() => deps.fleet.snapshot())
        await used(() => deps.reservoir('b').stats())
        await used(() => deps.nodeFetch(new URL('http://127.0.0.1:9'), {}).catch(() => undefined))
      },
    },
    together: {},
  }
  await runTasks(eventDeps(), tasks, 0)
  expect(lefts).toEqual([1, 2, 1, 1, 1, 1])
})
