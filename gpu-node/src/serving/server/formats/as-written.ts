/**
 * Returns a value that is made each time it is written as JSON, so that a long response is made piece by piece while it is
 * written (`json-in-turns.ts`), and is never held as a whole. Nothing else may read it: it has the type of what it is written as only
 * because the types of responses describe their JSON.
 */
export function asWritten<T>(make: () => T): T {
  return { toJSON: make } as unknown as T
}
