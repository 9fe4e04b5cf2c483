import type { KeptText, SampleSource, Side, StoredText } from '../../contracts/reservoir-object.ts'
import type { DrawableText } from './fair-draw.ts'
import { NOT_SET_ASIDE } from './reservoir-review.ts'
import { beginningOf } from './split-text.ts'
import { textBytes } from './text-bytes.ts'

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

  /**
   * Returns the texts that meet an SQL condition in the order of priority.
   *
   * @param parts the characters of those of which only the beginning is returned, by hash
   */
  list(
    condition: string,
    values: readonly string[],
    parts: ReadonlyMap<string, number> = new Map(),
  ): StoredText[] {
    return this.#sql
      .exec<{ hash: string; text: string }>(
        `SELECT hash, text FROM texts WHERE ${condition} ORDER BY priority`,
        ...values,
      )
      .toArray()
      .map(({ hash, text }) => ({ text: text.slice(0, parts.get(hash)), sources: this.#sourcesOf(hash) }))
  }

  /** Returns what a draw needs of the texts that meet an SQL condition, in the order of priority. */
  listDrawable(condition: string, values: readonly string[]): DrawableText[] {
    return this.#sql
      .exec<{ [Name in keyof DrawableText]: DrawableText[Name] }>(
        `SELECT hash, characters, octet_length(text) AS bytes, tenant, key_id AS keyId,
           -- Texts of old versions name neither request nor conversation.
           coalesce((SELECT nullif(min(request_id || ' ' || conversation), ' ') FROM sources
             WHERE sources.hash = texts.hash AND sources.key_id = texts.key_id), hash) AS request
         FROM texts WHERE ${condition} ORDER BY priority`,
        ...values,
      )
      .toArray()
  }

  /** Returns the size of the beginning of a text that ends after a word and has at most `maxBytes`. */
  cut({ hash }: Pick<DrawableText, 'hash'>, maxBytes: number): Pick<DrawableText, 'characters' | 'bytes'> {
    const { text } = this.#sql.exec<{ text: string }>('SELECT text FROM texts WHERE hash = ?', hash).one()
    const beginning = beginningOf(text, maxBytes)
    return { characters: beginning.length, bytes: textBytes(beginning) }
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

  /** Returns the texts that requests brought last, newest first, without those that are set aside. */
  newest(maxTexts: number, previewCharacters: number): KeptText[] {
    return this.#sql
      .exec<{ [Name in keyof Omit<KeptText, 'isTaken'>]: KeptText[Name] } & { taken: number }>(
        `SELECT texts.hash AS id, text AS preview, characters, texts.key_id AS keyId, texts.tenant AS tenant, side,
           taken, max(at_ms) AS lastSeenAtMs
         FROM texts LEFT JOIN sources USING (hash) WHERE ${NOT_SET_ASIDE}
         GROUP BY texts.hash ORDER BY lastSeenAtMs DESC, texts.hash LIMIT ?`,
        maxTexts,
      )
      .toArray()
      .map(({ taken, preview, ...text }) => ({
        ...text,
        preview: preview.slice(0, previewCharacters),
        isTaken: taken !== 0,
      }))
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
