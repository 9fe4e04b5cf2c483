/**
 * Returns a value that is made each time it is written as JSON, so that a long response is made piece by piece while it is
 * written (`json-in-turns.ts`), and is never held as a whole. It cannot be read otherwise.
 */
export function asWritten<T>(make: () => T): T {
  return { toJSON: make } as unknown as T
}
