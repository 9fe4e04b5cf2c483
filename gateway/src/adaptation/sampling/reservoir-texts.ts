import type { SampleSource, Side, StoredText } from '../../contracts/reservoir-object.ts'
import type { DrawableText } from './fair-draw.ts'

/** The maximum size of a side, or its current size. */
export interface SideBounds {
  texts: number
  characters: number
}

const SOURCE_COLUMNS = `request_id AS requestId, key_id AS keyId, tenant, conversation, consent_version AS consentVersion`

/** The stored texts of a reservoir with their sources. */
export class ReservoirTexts {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Returns the texts that meet an SQL condition in the order of priority. */
  list(condition: string, values: readonly string[]): StoredText[] {
    return this.#sql
      .exec<{ hash: string; text: string }>(
        `SELECT hash, text FROM texts WHERE ${condition} ORDER BY priority`,
        ...values,
      )
      .toArray()
      .map(({ hash, text }) => ({ text, sources: this.#sourcesOf(hash) }))
  }

  /** Returns what a draw needs of the texts that meet an SQL condition, in the order of priority. */
  listDrawable(condition: string, values: readonly string[]): DrawableText[] {
    return this.#sql
      .exec<{ [Name in keyof DrawableText]: DrawableText[Name] }>(
        `SELECT hash, characters, tenant, key_id AS keyId FROM texts WHERE ${condition} ORDER BY priority`,
        ...values,
      )
      .toArray()
  }

  /** Returns the size of the texts that meet an SQL condition. */
  sizeWhere(condition: string, ...values: string[]): SideBounds {
    return this.#sql
      .exec<{ texts: number; characters: number }>(
        `SELECT count(*) AS texts, coalesce(sum(characters), 0) AS characters FROM texts WHERE ${condition}`,
        ...values,
      )
      .one()
  }

  /** Deletes texts of one side whose hash, or that of their beginning, is in a list. */
  delete(side: Side, hashes: readonly string[]): void {
    const list = JSON.stringify(hashes)
    this.#sql.exec(
      `DELETE FROM texts WHERE side = ?1 AND hash IN
       (SELECT hash FROM texts JOIN json_each(?2) ON value IN (hash, head) WHERE side = ?1)`,
      side,
      list,
    )
    this.#sql.exec('DELETE FROM sources WHERE hash NOT IN (SELECT hash FROM texts)')
  }

  #sourcesOf(hash: string): SampleSource[] {
    return this.#sql
      .exec<{
        [Name in keyof SampleSource]: SampleSource[Name]
      }>(`SELECT ${SOURCE_COLUMNS} FROM sources WHERE hash = ? ORDER BY at_ms, key_id, conversation`, hash)
      .toArray()
  }
}
