/** A text that an update takes, and how much of it. */
interface TakenText {
  hash: string
  /** Characters of its beginning that are taken; the whole text if they are left out. */
  characters?: number | undefined
}

/** The marks of texts that updates have taken. A text is taken once for a model, and its mark outlives it. */
export class ReservoirMarks {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Returns whether an update has taken any text. */
  isAny(model: string, updateId: string): boolean {
    const [mark] = this.#sql.exec(
      'SELECT 1 FROM taken WHERE model = ? AND update_id = ? LIMIT 1',
      model,
      updateId,
    )
    return mark !== undefined
  }

  /** Marks texts, whether they are stored or not. */
  add(model: string, updateId: string, texts: readonly TakenText[]): void {
    const list = JSON.stringify(texts.map(({ hash }) => hash))
    this.#sql.exec(
      `INSERT OR REPLACE INTO parts
       SELECT ?1, value ->> 'hash', value ->> 'characters' FROM json_each(?2) JOIN texts ON hash = value ->> 'hash'
       WHERE value ->> 'characters' < texts.characters AND hash NOT IN (SELECT hash FROM taken WHERE model = ?1)`,
      model,
      JSON.stringify(texts),
    )
    this.#sql.exec('INSERT OR IGNORE INTO taken SELECT ?, value, ? FROM json_each(?)', model, updateId, list)
    this.#sql.exec('UPDATE texts SET taken = 1 WHERE hash IN (SELECT value FROM json_each(?))', list)
  }

  /** Returns the characters that an update has taken of each text of which it has taken only the beginning. */
  partsOf(model: string, updateId: string): Map<string, number> {
    const parts = this.#sql.exec<{ hash: string; characters: number }>(
      'SELECT hash, characters FROM parts JOIN taken USING (model, hash) WHERE model = ? AND update_id = ?',
      model,
      updateId,
    )
    return new Map(parts.toArray().map(({ hash, characters }) => [hash, characters]))
  }

  /** Returns the size of the taken texts that meet an SQL condition, by model. */
  sizesWhere(condition: string): Map<string, { texts: number; characters: number }> {
    const sizes = this.#sql.exec<{ model: string; texts: number; characters: number }>(
      `SELECT model, count(*) AS texts, sum(characters) AS characters FROM taken JOIN texts USING (hash)
       WHERE ${condition} GROUP BY model`,
    )
    return new Map(sizes.toArray().map(({ model, ...size }) => [model, size]))
  }

  /** Removes the marks of updates. */
  remove(model: string, updateIds: readonly string[]): void {
    const ofUpdates = 'FROM taken WHERE model = ?1 AND update_id IN (SELECT value FROM json_each(?2))'
    const ids = JSON.stringify(updateIds)
    this.#sql.exec(`DELETE FROM parts WHERE model = ?1 AND hash IN (SELECT hash ${ofUpdates})`, model, ids)
    this.#sql.exec(`DELETE ${ofUpdates}`, model, ids)
    this.#sql.exec('UPDATE texts SET taken = 0 WHERE taken = 1 AND hash NOT IN (SELECT hash FROM taken)')
  }
}
