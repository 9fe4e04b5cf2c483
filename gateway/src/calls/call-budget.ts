import type { CallBudget } from '../contracts/call-budget.ts'
import { causeChain } from '../runtime/cause-chain.ts'

/**
 * Calls of D1, R2, Durable Objects, queues, Workflows and nodes that an event makes at most. Cloudflare allows an invocation
 * 1,000 queries of D1, and 10,000 calls in all on the paid plan. The rest of the 1,000 is for calls that no budget counts: log
 * lines, spans, and what a request does before and after its handler.
 */
export const EVENT_CALLS = 950

/** Thrown instead of a call that is beyond the budget. The next event does the rest of the work. */
export class CallsUsedUp extends Error {
  override name = 'CallsUsedUp'
  constructor() {
    super('The calls that this event may make are used up.')
  }
}

/** Returns whether an error is {@link CallsUsedUp} or was caused by it: drizzle-orm wraps what a statement throws. */
export function isCallsUsedUp(thrown: unknown): boolean {
  return causeChain(thrown).some((error) => error instanceof CallsUsedUp)
}

/** The budget of events whose calls nobody counts, because they are few: most requests. */
export const UNCOUNTED: CallBudget = { left: Infinity, take: () => undefined, reserve: () => true }

/** Creates the budget of an event that does one thing. */
export function createCallBudget(calls = EVENT_CALLS): CallBudget {
  return new TaskCalls(calls, { calls: 0 })
}

/**
 * Returns a budget that refuses the last `kept` of `calls`, which no other task can take either. It is for dependencies that `calls`
 * meters already: these take each call, so that this budget takes none.
 */
export function keepCalls(calls: CallBudget, kept: number): CallBudget {
  calls.reserve(kept)
  return {
    get left() {
      return Math.max(0, calls.left - kept)
    },
    take(taken) {
      if (taken > this.left) throw new CallsUsedUp()
    },
    reserve: (reserved) => calls.reserve(reserved + kept),
  }
}

/**
 * Waits for work that a later event goes on with if its calls are used up: the log then has a warning, because that is no failure.
 *
 * @param name the work, for the log
 */
export async function untilUsedUp(name: string, work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isCallsUsedUp(error)) throw error
    console.warn(`${name} has used the calls of an event; a later event goes on.`)
  }
}

/** The budget of one task among several. */
interface SharedBudget extends CallBudget {
  /** Gives what is left to the tasks that still run. */
  end(): void
}

/**
 * Shares the calls of an event among its tasks, so that none can take what another needs. The tasks share half of the calls
 * equally. One task gets the other half, a different one at each event, so that a task that needs many calls at once gets them
 * regularly. The unused calls of a task that has ended go to the others.
 *
 * @param rotation the number of the event
 */
export function shareCalls(tasks: number, rotation: number, calls = EVENT_CALLS): SharedBudget[] {
  const left = { calls: 0 }
  const share = Math.floor(calls / 2 / tasks)
  return Array.from(
    { length: tasks },
    (_, task) => new TaskCalls(task === rotation % tasks ? calls - (tasks - 1) * share : share, left),
  )
}

class TaskCalls implements SharedBudget {
  #own: number
  /** Calls that were reserved. They are taken last. */
  #reserved = 0
  readonly #common: { calls: number }

  constructor(own: number, common: { calls: number }) {
    this.#own = own
    this.#common = common
  }

  get left(): number {
    return this.#own + this.#common.calls + this.#reserved
  }

  take(calls: number): void {
    if (calls > this.left) throw new CallsUsedUp()
    const shared = Math.min(calls, this.#own + this.#common.calls)
    this.#takeShared(shared)
    this.#reserved -= calls - shared
  }

  reserve(calls: number): boolean {
    if (calls > this.left) return false
    const missing = Math.max(0, calls - this.#reserved)
    this.#takeShared(missing)
    this.#reserved += missing
    return true
  }

  end(): void {
    this.#common.calls += this.#own + this.#reserved
    this.#own = 0
    this.#reserved = 0
  }

  /** Takes calls of its own first, so that as many as possible are left for other tasks. */
  #takeShared(calls: number): void {
    const own = Math.min(calls, this.#own)
    this.#own -= own
    this.#common.calls -= calls - own
  }
}
