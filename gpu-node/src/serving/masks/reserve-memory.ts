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

/** Time between two looks at whether sets have left. */
const POLL_MS = 20

/**
 * Takes memory from weight sets, and waits until those have left that do not fit any more.
 *
 * @returns a function that gives it back; null if the sets that must serve would not fit, or the others do not leave in time
 */
export async function reserveMemory(
  bytes: number,
  memory: ReservableMemory,
  timeoutMs: number,
): Promise<(() => void) | null> {
  if (!memory.canServeWith(memory.budgetBytes() - bytes)) return null
  memory.change(bytes)
  let isReserved = true
  const giveBack = () => {
    if (isReserved) memory.change(-bytes)
    isReserved = false
  }
  const startedMs = performance.now()
  const hasLeft = () => memory.heldBytes() <= memory.budgetBytes()
  while (!hasLeft() && performance.now() - startedMs < timeoutMs) await sleep(POLL_MS)
  if (hasLeft()) return giveBack
  giveBack()
  return null
}
