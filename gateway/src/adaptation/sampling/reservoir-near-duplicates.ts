import type { Side } from '../../contracts/reservoir-object.ts'
import { isNearDuplicate, sharedPart, type SketchedText } from './near-duplicate.ts'

/** Estimated part of a text that another has, from which on it may have all; the texts tell. */
const MIN_CONTAINED = 0.7
/** Texts that are read to tell: those of a service with a template all share a part. */
const MAX_READ = 16

/** A text that is stored, or was and is remembered. */
interface KnownText extends SketchedText {
  side: Side
  isStored: boolean
}

/**
 * Finds texts that are almost the same as a new one: stored ones, and on the other side also those that are gone, if a model has taken
 * them or they were held out. Sketches are kept in memory: 128 bytes of each text.
 */
export class ReservoirNearDuplicates {
  readonly #sql: SqlStorage
  #known: Map<string, KnownText> | undefined

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /**
   * Returns whether a text that is almost the same is stored on either side, or was on the other one; or whether one of the other side
   * begins with all of the new text, or the new one with all of it, as prompts do that grow with a conversation.
   */
  has({ text, side, sketch }: { text: string; side: Side; sketch: Uint8Array }): boolean {
    const own = { sketch, characters: text.length }
    const similar: { hash: string; part: number }[] = []
    for (const [hash, known] of this.#load()) {
      const isOther = known.side !== side
      if ((known.isStored || isOther) && isNearDuplicate(sketch, known.sketch)) return true
      if (!isOther || !known.isStored) continue
      const part = sharedPart(own, known)
      if (part >= MIN_CONTAINED) similar.push({ hash, part })
    }
    return similar
      .toSorted((a, b) => b.part - a.part)
      .slice(0, MAX_READ)
      .some(({ hash }) => {
        const [stored] = this.#sql.exec<{ text: string }>('SELECT text FROM texts WHERE hash = ?', hash)
        return stored !== undefined && (stored.text.startsWith(text) || text.startsWith(stored.text))
      })
  }

  /** Adds a stored text. */
  add(hash: string, { text, side, sketch }: { text: string; side: Side; sketch: Uint8Array }): void {
    this.#load().set(hash, { sketch, side, characters: text.length, isStored: true })
  }

  /** Notes that a text is stored no longer; one that is remembered still keeps others from the other side. */
  remove(hash: string): void {
    const known = this.#known?.get(hash)
    if (!known) return
    const remembered = this.#sql.exec('SELECT 1 FROM sides WHERE hash = ? AND sketch IS NOT NULL', hash)
    if (remembered.toArray().length > 0) known.isStored = false
    else this.#known?.delete(hash)
  }

  /** Forgets the sketches, which are read again. */
  clear(): void {
    this.#known = undefined
  }

  #load(): Map<string, KnownText> {
    this.#known ??= new Map(
      this.#sql
        .exec<{ hash: string; side: Side; sketch: ArrayBuffer; characters: number; stored: number }>(
          `SELECT hash, side, sketch, characters, 1 AS stored FROM texts WHERE sketch IS NOT NULL
           UNION ALL
           SELECT hash, side, sketch, 0, 0 FROM sides WHERE sketch IS NOT NULL AND hash NOT IN (SELECT hash FROM texts)`,
        )
        .toArray()
        .map(({ hash, side, sketch, characters, stored }) => [
          hash,
          { side, sketch: new Uint8Array(sketch), characters, isStored: stored === 1 },
        ]),
    )
    return this.#known
  }
}
