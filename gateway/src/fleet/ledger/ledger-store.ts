import { Ledger } from './ledger.ts'
import type { AccountRecord, Reservation } from './ledger-records.ts'

const ACCOUNT_KEY = 'account:'
const RESERVATION_KEY = 'hold:'
/** The maximum number of keys that a Durable Object stores or deletes in one call. */
const KEYS_PER_CALL = 128

/** Reads a ledger and the ids of its reserved attempts from a Durable Object's storage. */
export async function loadLedger(
  storage: DurableObjectStorage,
  nowMs: number,
): Promise<{ ledger: Ledger; leaseIds: string[] }> {
  const ledger = new Ledger()
  const accounts = await read<AccountRecord>(storage, ACCOUNT_KEY)
  const reservations = await read<Reservation>(storage, RESERVATION_KEY)
  ledger.restore(accounts, reservations, nowMs)
  return { ledger, leaseIds: [...reservations.values()].map(({ leaseId }) => leaseId) }
}

/** Stores the changes of a ledger. On an error they are returned to the ledger and stored with the next ones. */
export async function saveLedger(
  storage: DurableObjectStorage,
  ledger: Ledger,
  nowMs: number,
): Promise<void> {
  const { accounts, reservations } = ledger.takeChanges(nowMs)
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
      writes.push(storage.put(Object.fromEntries(stored.slice(from, from + KEYS_PER_CALL)), options))
    const gone = changes.filter(([, value]) => value === undefined).map(([key]) => key)
    for (let from = 0; from < gone.length; from += KEYS_PER_CALL)
      writes.push(storage.delete(gone.slice(from, from + KEYS_PER_CALL), options))
    await Promise.all(writes)
  } catch (error) {
    ledger.returnChanges({ accounts, reservations })
    throw error
  }
}

async function read<T>(storage: DurableObjectStorage, prefix: string): Promise<Map<string, T>> {
  const found = await storage.list<T>({ prefix })
  return new Map([...found].map(([key, value]) => [key.slice(prefix.length), value]))
}
