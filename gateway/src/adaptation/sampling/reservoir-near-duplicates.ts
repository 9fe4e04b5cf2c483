import { isNearDuplicate } from './near-duplicate.ts'

/** Finds stored texts that are almost the same as another. Sketches of all texts are kept in memory: 128 bytes of each. */
export class ReservoirNearDuplicates {
  readonly #sql: SqlStorage
  #sketches: Map<string, Uint8Array> | undefined

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Returns whether a text that is almost the same is stored on either side. */
  has(sketch: Uint8Array): boolean {
    const sketches = this.#load()
    for (const [hash, stored] of sketches) {
      if (!isNearDuplicate(sketch, stored)) continue
      if (this.#sql.exec('SELECT 1 FROM texts WHERE hash = ?', hash).toArray().length > 0) return true
      sketches.delete(hash)
    }
    return false
  }

  /** Adds a stored text. */
  add(hash: string, sketch: Uint8Array): void {
    this.#load().set(hash, sketch)
  }

  /** Removes a text that is stored no longer. */
  remove(hash: string): void {
    this.#sketches?.delete(hash)
  }

  /** Forgets the sketches, which are read again. */
  clear(): void {
    this.#sketches = undefined
  }

  #load(): Map<string, Uint8Array> {
    this.#sketches ??= new Map(
      this.#sql
        .exec<{ hash: string; sketch: ArrayBuffer }>(
          'SELECT hash, sketch FROM texts WHERE sketch IS NOT NULL',
        )
        .toArray()
        .map(({ hash, sketch }) => [hash, new Uint8Array(sketch)]),
    )
    return this.#sketches
  }
}
