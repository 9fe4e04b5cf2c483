/** The calendar month of a time, UTC: they count up. */
export function monthOf(nowMs: number): number {
  const date = new Date(nowMs)
  return date.getUTCFullYear() * 12 + date.getUTCMonth()
}

/** When the month of a time begins, or one after it. */
export function monthStartMs(nowMs: number, monthsLater = 0): number {
  const date = new Date(nowMs)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + monthsLater, 1)
}
