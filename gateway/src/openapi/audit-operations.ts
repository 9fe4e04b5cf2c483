import { auditPage, auditQuery } from '@copal/shared/wire/admin-audit.ts'
import { named, type Operation } from './operation.ts'

/** Operations on the audit log. */
export const AUDIT_OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/admin/audit',
    id: 'listAudit',
    tag: 'Service',
    summary: 'Lists decisions and admin actions, with the hashes that chain them.',
    key: 'operator',
    querySchema: auditQuery,
    response: named('AuditPage', auditPage),
  },
]
