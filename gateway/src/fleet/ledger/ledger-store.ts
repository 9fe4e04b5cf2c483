import { Ledger } from './ledger.ts'
import type { AccountRecord, Reservation } from './ledger-records.ts'

const ACCOUNT_KEY = 'account:'
const HOLD_KEY = 'hold:'
/** Keys that a Durable Object stores or deletes in one call. */
const KEYS_PER_CALL = 128

/** Reads a ledger from a Durable Object's storage, and the attempts that have reservations there. */
export async function loadLedger(
  storage: DurableObjectStorage,
  nowMs: number,
): Promise<{ ledger: Ledger; leaseIds: string[] }> {
  const ledger = new Ledger()
  const accounts = await read<AccountRecord>(storage, ACCOUNT_KEY)
  const holds = await read<Reservation>(storage, HOLD_KEY)
  ledger.restore(accounts, holds, nowMs)
  return { ledger, leaseIds: [...holds.values()].map(({ leaseId }) => leaseId) }
}

/** Stores what changed in a ledger; what cannot be stored now is stored with what comes next. */
export async function saveLedger(
  storage: DurableObjectStorage,
  ledger: Ledger,
  nowMs: number,
): Promise<void> {
  const { accounts, holds } = ledger.takeChanges(nowMs)
  if (accounts.size === 0 && holds.size === 0) return
  try {
    const changes = [
      ...[...accounts].map(([id, record]) => [ACCOUNT_KEY + id, record] as const),
      ...[...holds].map(([id, hold]) => [HOLD_KEY + id, hold] as const),
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
    ledger.keepChanges({ accounts, holds })
    throw error
  }
}

async function read<T>(storage: DurableObjectStorage, prefix: string): Promise<Map<string, T>> {
  const found = await storage.list<T>({ prefix })
  return new Map([...found].map(([key, value]) => [key.slice(prefix.length), value]))
}
