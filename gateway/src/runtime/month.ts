/** Returns the number of a time's calendar month, UTC; months are numbered consecutively. */
export function monthOf(nowMs: number): number {
  const date = new Date(nowMs)
  return date.getUTCFullYear() * 12 + date.getUTCMonth()
}

/** Returns when the month of a time begins, or a month after it. */
export function monthStartMs(nowMs: number, monthsLater = 0): number {
  const date = new Date(nowMs)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + monthsLater, 1)
}
