/** Stores an entry as the latest of a map, and drops the oldest one beyond the maximum. */
export function storeLatest<T>(entries: Map<string, T>, key: string, value: T, maxEntries: number): void {
  entries.delete(key)
  const [oldest] = entries.keys()
  if (entries.size >= maxEntries && oldest !== undefined) entries.delete(oldest)
  entries.set(key, value)
}
