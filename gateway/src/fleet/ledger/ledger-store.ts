import type { Ledger } from './ledger.ts'
import type { LedgerChanges, LedgerRecords } from './ledger-records.ts'

/**
 * The prefix of the keys of each kind of record. A version without estimates leaves theirs alone; under the prefix of reservations
 * it would take them for open ones, and charge them again.
 */
const PREFIXES = { accounts: 'account:', reservations: 'hold:', estimates: 'estimate:' } as const
const KINDS = ['accounts', 'reservations', 'estimates'] as const
/** The maximum number of keys that a Durable Object stores or deletes in one call. */
const KEYS_PER_CALL = 128
/** The delay before changes are stored, for many requests at once. A crash loses at most this time. */
const SAVE_MS = 100

/** Keeps a ledger in the storage of its Durable Object. */
export class LedgerStore {
  readonly #ledger: Ledger
  readonly #storage: DurableObjectStorage
  #scheduled: ReturnType<typeof setTimeout> | undefined

  constructor(ledger: Ledger, storage: DurableObjectStorage) {
    this.#ledger = ledger
    this.#storage = storage
  }

  /** Restores the ledger, and returns the ids of its reserved attempts and of those that were settled by an estimate. */
  async load(nowMs: number): Promise<string[]> {
    const [accounts, reservations, estimates] = [
      await this.#read('accounts'),
      await this.#read('reservations'),
      await this.#read('estimates'),
    ]
    this.#ledger.restore({ accounts, reservations, estimates }, nowMs)
    const settled = [...estimates.values()].map(({ reservation }) => reservation)
    return [...reservations.values(), ...settled].map(({ leaseId }) => leaseId)
  }

  /** Stores the changes of the ledger soon. */
  saveSoon(): void {
    this.#scheduled ??= setTimeout(() => {
      this.save().catch((error: unknown) =>
        console.error('Cannot store the usage ledger; trying again later:', error),
      )
    }, SAVE_MS)
  }

  /** Stores the changes of the ledger. On an error they are returned to the ledger and stored with the next ones. */
  async save(): Promise<void> {
    clearTimeout(this.#scheduled)
    this.#scheduled = undefined
    const taken = this.#ledger.takeChanges(Date.now())
    const changes = KINDS.flatMap((kind) => keyed(kind, taken))
    if (changes.length === 0) return
    try {
      const options = { allowUnconfirmed: true }
      const writes: Promise<unknown>[] = []
      const stored = changes.filter(([, value]) => value !== undefined)
      for (let from = 0; from < stored.length; from += KEYS_PER_CALL)
        writes.push(this.#storage.put(Object.fromEntries(stored.slice(from, from + KEYS_PER_CALL)), options))
      const gone = changes.filter(([, value]) => value === undefined).map(([key]) => key)
      for (let from = 0; from < gone.length; from += KEYS_PER_CALL)
        writes.push(this.#storage.delete(gone.slice(from, from + KEYS_PER_CALL), options))
      await Promise.all(writes)
    } catch (error) {
      this.#ledger.returnChanges(taken)
      throw error
    }
  }

  async #read<Kind extends keyof LedgerRecords>(kind: Kind): Promise<LedgerRecords[Kind]> {
    const prefix = PREFIXES[kind]
    const found = await this.#storage.list({ prefix })
    return new Map([...found].map(([key, value]) => [key.slice(prefix.length), value])) as LedgerRecords[Kind]
  }
}

/** Returns the changes of one kind by the keys of their records. */
function keyed(kind: keyof LedgerChanges, taken: LedgerChanges): (readonly [string, unknown])[] {
  return [...taken[kind]].map(([id, record]) => [PREFIXES[kind] + id, record] as const)
}
