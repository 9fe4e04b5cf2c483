import type { Ledger } from './ledger.ts'
import type { AccountRecord, Reservation } from './ledger-records.ts'

const ACCOUNT_KEY = 'account:'
const RESERVATION_KEY = 'hold:'
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
    const accounts = await this.#read<AccountRecord>(ACCOUNT_KEY)
    const reservations = await this.#read<Reservation>(RESERVATION_KEY)
    this.#ledger.restore(accounts, reservations, nowMs)
    return [...reservations.values()].map(({ leaseId }) => leaseId)
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
    const { accounts, reservations } = this.#ledger.takeChanges(Date.now())
    if (accounts.size === 0 && reservations.size === 0) return
    try {
      const changes = [
        ...[...accounts].map(([id, record]) => [ACCOUNT_KEY + id, record] as const),
        ...[...reservations].map(([id, reservation]) => [RESERVATION_KEY + id, reservation] as const),
      ]
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
      this.#ledger.returnChanges({ accounts, reservations })
      throw error
    }
  }

  async #read<T>(prefix: string): Promise<Map<string, T>> {
    const found = await this.#storage.list<T>({ prefix })
    return new Map([...found].map(([key, value]) => [key.slice(prefix.length), value]))
  }
}
