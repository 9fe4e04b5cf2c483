import { setTimeout as sleep } from 'node:timers/promises'

/** The memory of weight sets, as a reservation of a part of it needs it. */
export interface ReservableMemory {
  /** Returns the bytes that sets may take now. */
  budgetBytes(): number
  /** Returns the bytes that they take. */
  heldBytes(): number
  /** Returns whether the sets that must serve fit into so many bytes. */
  canServeWith(budgetBytes: number): boolean
  /** Takes bytes from the sets, or with a negative number gives them back, and begins to release or load sets. */
  change(bytes: number): void
}

/** Gives back a reservation, except `keepBytes` of it; all by default. More than is still reserved changes nothing. */
export type GiveBack = (keepBytes?: number) => void

/** Polling interval. */
const POLL_MS = 20

/**
 * Takes memory from weight sets, and waits until the sets that no longer fit are released.
 *
 * @returns a function that gives it back; null if the sets that must serve would not fit, or the others are not released in time
 * @throws the reason of `signal`; then nothing is reserved
 */
export async function reserveMemory(
  bytes: number,
  memory: ReservableMemory,
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<GiveBack | null> {
  signal?.throwIfAborted()
  if (!memory.canServeWith(memory.budgetBytes() - bytes)) return null
  memory.change(bytes)
  let reservedBytes = bytes
  const giveBack: GiveBack = (keepBytes = 0) => {
    const returnedBytes = reservedBytes - keepBytes
    if (returnedBytes <= 0) return
    reservedBytes = keepBytes
    memory.change(-returnedBytes)
  }
  let isFree = false
  try {
    const startedMs = performance.now()
    const fits = () => memory.heldBytes() <= memory.budgetBytes()
    while (!fits() && performance.now() - startedMs < timeoutMs) await sleep(POLL_MS, undefined, { signal })
    isFree = fits()
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    if (!isFree) giveBack()
  }
  return isFree ? giveBack : null
}
