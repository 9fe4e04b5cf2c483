import type { OfferedSample, SourceFilter } from '../../contracts/reservoir-object.ts'
import { matchesFilter, sourceCondition } from './source-filter.ts'
import { MAX_QUEUE_DELAY_MS } from './tombstones.ts'

/** Deletions of sources, remembered so that samples that were queued before are not stored afterwards. */
export class ReservoirDeletions {
  readonly #sql: SqlStorage

  constructor(sql: SqlStorage) {
    this.#sql = sql
  }

  /** Remembers a deletion. */
  remember(filter: SourceFilter, nowMs: number): void {
    this.#sql.exec('INSERT INTO deletions VALUES (?, ?)', JSON.stringify(filter), nowMs)
  }

  /** Forgets the deletions before a time. */
  forget(beforeMs: number): void {
    this.#sql.exec('DELETE FROM deletions WHERE at_ms < ?', beforeMs)
  }

  /**
   * Returns a function that tells whether one of some offers was deleted after it was made, or is of a request that was deleted. It
   * reads the deletions since the oldest of them.
   */
  matcher(offers: readonly OfferedSample[]): (offer: OfferedSample) => boolean {
    const sinceMs = Math.min(...offers.map(({ atMs }) => atMs)) - MAX_QUEUE_DELAY_MS
    const deletions = this.#sql
      .exec<{
        filter: string
        atMs: number
      }>('SELECT filter, at_ms AS atMs FROM deletions WHERE at_ms >= ?', sinceMs)
      .toArray()
      .map(({ filter, atMs }) => ({ atMs, filter: JSON.parse(filter) as SourceFilter }))
    return (offer) =>
      deletions.some(
        ({ atMs, filter }) =>
          (filter.requestId !== undefined || offer.atMs < atMs) && matchesFilter(offer, filter),
      )
  }

  /**
   * Deletes the matching sources and the texts that have none left; see {@link deleteSources}. The other texts of their proposals
   * are in none until they are grouped again, because a proposal has words of all its texts.
   */
  delete(filter: SourceFilter): number {
    const { condition, values } = sourceCondition(filter)
    this.#sql.exec(
      `UPDATE descriptions SET proposal = NULL WHERE proposal IN (
         SELECT proposal FROM descriptions JOIN sources USING (hash) WHERE proposal > '' AND ${condition}
       )`,
      ...values,
    )
    return this.deleteSources(condition, ...values)
  }

  /**
   * Deletes the sources that meet an SQL condition, and the texts that have none left. A text that loses the key that it
   * counts for counts for the first of the others.
   *
   * @returns the number of texts that lost a source
   */
  deleteSources(condition: string, ...values: (string | number)[]): number {
    const { lost } = this.#sql
      .exec<{ lost: number }>(
        `SELECT count(DISTINCT hash) AS lost FROM sources WHERE ${condition}`,
        ...values,
      )
      .one()
    if (lost === 0) return 0
    this.#sql.exec(
      `DELETE FROM offered WHERE id IN (SELECT hash || ' ' || conversation FROM sources WHERE ${condition})`,
      ...values,
    )
    this.#sql.exec(`DELETE FROM sources WHERE ${condition}`, ...values)
    this.#sql.exec('DELETE FROM texts WHERE hash NOT IN (SELECT hash FROM sources)')
    this.#sql.exec(
      `UPDATE texts SET (tenant, key_id) =
         (SELECT tenant, key_id FROM sources WHERE sources.hash = texts.hash ORDER BY at_ms, key_id LIMIT 1)
       WHERE NOT EXISTS (
         SELECT 1 FROM sources
         WHERE sources.hash = texts.hash AND sources.key_id = texts.key_id AND sources.tenant = texts.tenant
       )`,
    )
    return lost
  }
}
