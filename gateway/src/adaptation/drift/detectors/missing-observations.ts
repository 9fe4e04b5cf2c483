import type { Database } from '../../../contracts/database.ts'
import { listObservationCounts } from '../../../storage/db/queries/detector-queries.ts'
import { PAGE_HINKLEY } from './page-hinkley.ts'

/** A domain and the mask that serves it. */
export interface ServedDomain {
  name: string
  /** 0 for the dense weights, which cost nothing that could drift. */
  maskVersion: number
}

/**
 * Returns how many observations the detectors of each domain lack before they judge its drift: of its traffic, and of the cost
 * of the mask that serves it. The number is that of the signal that lacks more. Each signal has two detectors, and lacks what the
 * one with more observations lacks.
 */
export async function missingObservations(
  db: Database,
  model: string,
  domains: readonly ServedDomain[],
): Promise<Map<string, number>> {
  if (domains.length === 0) return new Map()
  const keyOf = (domain: string, signal: 'dense' | 'gap', maskVersion: number) =>
    `${signal} ${maskVersion} ${domain}`
  const rows = new Map(
    (await listObservationCounts(db, model, domains)).map((row) => [
      keyOf(row.domain, row.signal, row.maskVersion),
      row,
    ]),
  )
  const missing = (...of: Parameters<typeof keyOf>) => {
    const row = rows.get(keyOf(...of))
    return Math.max(0, PAGE_HINKLEY.warmUp - Math.max(row?.pageHinkley ?? 0, row?.adwin ?? 0))
  }
  return new Map(
    domains.map(({ name, maskVersion }) => [
      name,
      Math.max(missing(name, 'dense', 0), maskVersion === 0 ? 0 : missing(name, 'gap', maskVersion)),
    ]),
  )
}
