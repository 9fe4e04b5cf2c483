import { AppError } from '@copal/shared/errors.ts'
import { unlessAborted } from './unless-aborted.ts'

/** The owner of a piece of work. All work that names neither a tenant nor an account has the same owner. */
export interface WorkOwner {
  tenant?: string | undefined
  /** An API key of the tenant. */
  account?: string | undefined
}

/** How much work may run or wait, by default without a limit. */
export interface QueueLimits {
  total?: number
  /** The most that one tenant may have running and waiting, so that others have room. */
  ofTenant?: number
  /** The most that one account may have running and waiting, so that others of its tenant have room. */
  ofAccount?: number
}

/** Runs pieces of work one at a time, and takes turns between tenants, and between the accounts of a tenant. */
export interface FairSerialQueue {
  /**
   * Runs the work when it is its turn. Aborting before that removes it from the queue. The work of one account runs in order of
   * arrival.
   *
   * @throws AppError `overloaded` when too many wait, `rate_limit_exceeded` when too many of this tenant or account do, `client_closed_request` after an abort, and what the work throws
   */
  run<T>(work: () => Promise<T>, owner: WorkOwner, signal?: AbortSignal): Promise<T>
}

/**
 * Creates an empty queue. A tenant with much work delays the others by one piece at a time.
 *
 * @param what plural name of the work for the error of a full queue: `schemas to compile`
 */
export function createFairSerialQueue(
  what: string,
  { total = Infinity, ofTenant = total, ofAccount = ofTenant }: QueueLimits = {},
): FairSerialQueue {
  const waiting = createTurns()
  const sizes = createCounts()
  let isRunning = false

  const startNext = () => {
    const start = waiting.next()
    isRunning = start !== undefined
    start?.()
  }

  const untilTurn = async (path: OwnerPath, signal: AbortSignal | undefined) => {
    const { promise: turn, resolve } = Promise.withResolvers<void>()
    let hasTurn = false
    const start = () => {
      hasTurn = true
      resolve()
    }
    waiting.add(path, start)
    try {
      await unlessAborted(turn, signal)
    } catch (left) {
      if (hasTurn) startNext()
      else waiting.remove(path, start)
      throw left
    }
  }

  const requireRoom = ([tenant, account]: OwnerPath) => {
    if (sizes.of([]) >= total)
      throw new AppError('overloaded', `This node already has ${total} ${what}. Try again later.`, {
        retryAfterS: 1,
      })
    const limited = [
      { size: sizes.of([tenant]), limit: ofTenant, owner: 'tenant' },
      { size: sizes.of([tenant, account]), limit: ofAccount, owner: 'API key' },
    ]
    for (const { size, limit, owner } of limited) {
      if (size < limit) continue
      const message = `This node already has ${limit} ${what} of this ${owner}. Try again in 1 s.`
      throw new AppError('rate_limit_exceeded', message, { retryAfterS: 1 })
    }
  }

  return {
    async run(work, { tenant = '', account = '' }, signal) {
      const path: OwnerPath = [tenant, account]
      requireRoom(path)
      sizes.add(path, 1)
      try {
        if (isRunning) await untilTurn(path, signal)
        isRunning = true
        try {
          return await work()
        } finally {
          startNext()
        }
      } finally {
        sizes.add(path, -1)
      }
    },
  }
}

/** A tenant and one of its accounts. */
type OwnerPath = readonly [tenant: string, account: string]

/** Counts the work of all owners, of each tenant and of each account. */
function createCounts() {
  const counts = new Map<string, number>()
  return {
    /** @param path nothing for all, a tenant, or a tenant and its account */
    of: (path: readonly string[]) => counts.get(JSON.stringify(path)) ?? 0,
    add([tenant, account]: OwnerPath, change: number) {
      for (const path of [[], [tenant], [tenant, account]]) {
        const key = JSON.stringify(path)
        const count = (counts.get(key) ?? 0) + change
        if (count > 0) counts.set(key, count)
        else counts.delete(key)
      }
    },
  }
}

/** Callbacks that wait for their turn. No list is empty. */
function createTurns() {
  /** By tenant and account; the turn of the first ones is next. */
  const tenants = new Map<string, Map<string, (() => void)[]>>()

  function put(
    accounts: Map<string, (() => void)[]>,
    [tenant, account]: OwnerPath,
    list: (() => void)[],
  ): void {
    if (list.length > 0) accounts.set(account, list)
    else accounts.delete(account)
    if (accounts.size > 0) tenants.set(tenant, accounts)
    else tenants.delete(tenant)
  }

  return {
    add(path: OwnerPath, start: () => void) {
      const accounts = tenants.get(path[0]) ?? new Map<string, (() => void)[]>()
      put(accounts, path, [...(accounts.get(path[1]) ?? []), start])
    },
    remove(path: OwnerPath, start: () => void) {
      const accounts = tenants.get(path[0])
      const list = accounts?.get(path[1])
      if (accounts && list)
        put(
          accounts,
          path,
          list.filter((one) => one !== start),
        )
    },
    /** Removes and returns the next one. Its account and its tenant come last then. */
    next(): (() => void) | undefined {
      for (const [tenant, accounts] of tenants) {
        for (const [account, [start, ...rest]] of accounts) {
          tenants.delete(tenant)
          accounts.delete(account)
          put(accounts, [tenant, account], rest)
          return start
        }
      }
      return undefined
    },
  }
}
