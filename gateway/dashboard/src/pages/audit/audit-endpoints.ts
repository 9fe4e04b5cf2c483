import type { AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { endpoint, type Endpoint } from '../../data/client.ts'

/** Filter of a list of entries. */
export interface AuditFilter {
  actor?: string | undefined
  target?: string | undefined
}

/** Entries, newest first, before an entry; `undefined`: the newest. */
export const newestAudit = (filter: AuditFilter, before?: number): Endpoint<AuditPage> =>
  endpoint<AuditPage>('/admin/audit', {
    order: 'newest',
    before,
    limit: 200,
    actor: filter.actor,
    target: filter.target,
  })
/** Entries after an entry, oldest first, as many as a response may have. */
export const auditAfter = (after: number): Endpoint<AuditPage> =>
  endpoint<AuditPage>('/admin/audit', { after, limit: 500 })
