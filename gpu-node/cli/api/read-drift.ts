import { driftReport, type DriftReport } from '@copal/shared/wire/admin.ts'
import { joinDriftPages } from '@copal/shared/wire/drift-pages.ts'
import type { ApiClient } from './api-client.ts'

/** Reads all pages of `GET /admin/drift` of a model, which may be left out while the fleet has one. */
export async function readDrift(client: Pick<ApiClient, 'admin'>, model?: string): Promise<DriftReport> {
  const read = (after?: string) => {
    const query = new URLSearchParams({ limit: '1000' })
    if (model !== undefined) query.set('model', model)
    if (after !== undefined) query.set('after', after)
    return client.admin('GET', `/drift?${query.toString()}`, driftReport)
  }
  let report = await read()
  while (typeof report.next_after === 'string') {
    const next = await read(report.next_after)
    // A server that repeats itself is no gateway.
    if (next.next_after === report.next_after) break
    report = joinDriftPages(report, next)
  }
  return report
}
