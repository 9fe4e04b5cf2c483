/**
 * Returns a value that is made each time it is written as JSON, so that a long response is made piece by piece while it is
 * written (`json-in-turns.ts`), and is never held as a whole. Nothing else may read it: it has the type of what it is written as only
 * because the types of responses describe their JSON.
 */
export function asWritten<T>(make: () => T): T {
  return { toJSON: make } as unknown as T
}

/**
 * Returns an array that is made some elements at a time while it is written, as {@link asWritten} makes values.
 *
 * @param make returns the elements from `from` to before `to`; called for the whole array in order, from its start
 */
export function arrayAsWritten<T>(length: number, make: (from: number, to: number) => T[]): T[] {
  return new WrittenArray(length, make) as unknown as T[]
}

/** The array of {@link arrayAsWritten}. */
export class WrittenArray {
  readonly length: number
  readonly slice: (from: number, to: number) => unknown[]

  constructor(length: number, make: (from: number, to: number) => unknown[]) {
    this.length = length
    this.slice = make
  }

  toJSON(): unknown[] {
    return this.slice(0, this.length)
  }
}

/** An object of a stream that is too long to be written at once. */
export class LongObject {
  readonly value: object

  constructor(value: object) {
    this.value = value
  }
}
